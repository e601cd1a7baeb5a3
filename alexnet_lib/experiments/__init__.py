"""Experiments: nets trained in several variants and from several seeds, and what came of them."""

from .. import lazily

NAMES = {
    "ablations": "LIGHTS LONG SHORT_RUN TESTED averaged_errors final_errors gain gains histories kept_runs "
    "results run_variant silenced_errors slowdowns ten_views_gain tinted_errors",
    "biases": "steps_below",
    "cifar_experiments": "at_best_rate crossed_reference epochs_by_run figure1_reference speedup speedup_table",
    "common": "PICTURES RISK holm long_folder of_common_seeds spread_of",
    "evidence": "by_chance effects interval missing p_alone",
    "lrn_records": "LRN_NETS LRN_PAIRS VIEWS lrn_curves lrn_gains lrn_pair lrn_table",
    "sequel": "race",
    "stalls": "outcomes",
    "trained": "full_size_kernels search_seconds",
}
__getattr__, __dir__, __all__ = lazily(__name__, NAMES)
