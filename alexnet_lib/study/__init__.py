"""What is computed about the nets, for the notebooks and the ledger."""

from .. import lazily

NAMES = {
    "anatomy": "PRINTED specification summarise trace zeros_read",
    "asynchronous": "gain_of_averaging largest_rate noisy_descent parameter_server stale_descent",
    "baselines": "colour_features small_pixels",
    "log2012": "averaged equal_nets fit_weights",
    "probes": "augmentation_share batch_seconds first_batch hidden_share random_store steps_per_second timeline",
    "responses": "lone_response",
    "sub_networks": "approximation correlation distance every_mask every_sub_network extra_loss extra_squared_loss "
    "geometric_mean sampled_sub_networks silenced small_net",
}
__getattr__, __dir__, __all__ = lazily(__name__, NAMES, {"googlenet_modules": "googlenet.modules"})
