/* A module built for another version of the strategies' interface: must be refused. */
#include "strategies/strategy.h"

__attribute__((visibility("default"))) const struct strategy asyncow_strategy = {
    .abi = STRATEGY_ABI + 1,
    .name = "old",
};
