"""The network: encoding of measurements, backbone, heads. Filled by the learned estimator."""
