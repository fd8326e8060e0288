// One row of cells of a picture.
#pragma once

#include <cstdint>

namespace doppelgan {

// Means of blocks of `block` rows of `size`: out [cells]; lines: [2 * size], scratch.
void mean_blocks(const float *rows, int64_t block, int64_t size, int64_t cells, float *lines, float *out);

}  // namespace doppelgan
