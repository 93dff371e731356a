"""What can be wrong with a frame: bits of the quality column."""

INCOMPLETE = 1  # at least one cell is not available
FROZEN = 2  # the same bytes again and again under current: no estimator may learn from it
CELL_RANGE = 4  # a cell value was impossible
TEMP_RANGE = 8  # a probe value was impossible
CURRENT_RANGE = 16
PACK_V_RANGE = 32
SUM_MISMATCH = 64  # sum of cells against pack voltage, beyond the pack's own offset
CELL_RATE = 128  # a cell moved faster than physics allows
GAP_BEFORE = 256  # frames are missing before this one
BOOT = 512  # the frame counter started again
STUCK = 1024  # one value stands still while its cause moves
SWEEP_SKEW = 2048  # cells were read one after another during a current step
NO_CELLS = 4096  # fewer than half of the cells are valid

NAMES: dict[int, str] = {
    INCOMPLETE: "incomplete",
    FROZEN: "frozen",
    CELL_RANGE: "cell_range",
    TEMP_RANGE: "temp_range",
    CURRENT_RANGE: "current_range",
    PACK_V_RANGE: "pack_v_range",
    SUM_MISMATCH: "sum_mismatch",
    CELL_RATE: "cell_rate",
    GAP_BEFORE: "gap_before",
    BOOT: "boot",
    STUCK: "stuck",
    SWEEP_SKEW: "sweep_skew",
    NO_CELLS: "no_cells",
}
