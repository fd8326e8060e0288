// The arithmetic of an encoder's convolutions on a CPU: what encoder.cpp calls for every part of a layer.
//
// Feature maps are NHWC float32 with one pixel of zeros around them: [size + 2][size + 2][channels], channels
// padded with zeros to a multiple of 8. Nothing here allocates, throws or uses the standard library: this
// file is compiled for newer processors than the rest, and what the linker shares between files must not be.
#pragma once

#include <cstdint>

#include "packed_weights.h"

namespace doppelgan {

// How a convolution becomes matrix products. A tile is what one row of a product stands for.
enum class Method {
    picture,   // a few planes of a picture: all taps of a pixel side by side, one matrix
    direct,    // one matrix per tap; a tile is a pixel
    winograd,  // 3x3, stride 1: F(4x4, 3x3); a tile is 4x4 pixels of the result
    halving,   // 3x3, stride 2: F(4x4, 2x2) over the pixels of odd rows and columns, see halving_matrices()
};

constexpr int64_t CELL = 4;  // Winograd: pixels of the result per side of a tile
constexpr int64_t WINOGRAD_MATRICES = 36;
// Stride 2: pixels in odd rows and columns meet two taps in both directions, 25 matrices of one row per tile;
// those in odd rows and even columns 5 matrices of 4 rows; in even rows and odd columns likewise; in even
// ones of both, one tap and 16 rows.
constexpr int64_t HALVING_MATRICES = 36;
constexpr int64_t MOST_DIRECT_TAPS = 9;

// y = leaky(convolution(x * scale) + bias + addend), zeros around x.
struct MapConvolution {
    Method method;
    int64_t inputs, outputs;     // channels, padded; `inputs` of a picture: channels x taps
    int64_t in_size, size;       // pixels per side of x and y
    int64_t side, stride;        // of the kernel; its middle lies on the pixel
    int64_t planes;              // of a picture
    int64_t tap_count;           // direct: taps that meet any pixel,
    int taps[MOST_DIRECT_TAPS];  // and which, row by row
    PackedWeights weights;
    const float *x;       // [in_size + 2][in_size + 2][inputs], or a picture [planes][in_size][in_size]
    float *y;             // [size + 2][size + 2][outputs]
    const float *scale;   // [inputs], or nullptr for 1
    const float *bias;    // [9][outputs]: in the first row, a middle one, the last one; columns likewise
    const float *slope;   // [outputs], of what is below zero
    const float *addend;  // a map like y, or nullptr
};

int64_t tile_count(const MapConvolution &c);

// The left sides of the products of `tiles` tiles: floats of memory, and those of scratch to make them.
int64_t factor_floats(const MapConvolution &c, int64_t tiles);
int64_t transform_scratch(const MapConvolution &c);
// Tiles [first, end) into memory that begins with the tile `origin` and holds `tiles`.
void transform_tiles(const MapConvolution &c, int64_t first, int64_t end, int64_t origin, int64_t tiles,
                     float *memory, float *scratch);

// Channels [first_channel, end_channel) of the tiles in `memory`: products and all that follows. sums
// [outputs]
// += y over all of its pixels, unless nullptr. Channels begin and end at whole panels.
int64_t product_scratch(const MapConvolution &c, int64_t tiles, int64_t channels);
void multiply_tiles(const MapConvolution &c, int64_t origin, int64_t tiles, float *memory,
                    int64_t first_channel, int64_t end_channel, float *sums, float *scratch);

// Rows of out = x * gate + shortcut, where the shortcut's pixels are `stride` apart. Maps as above.
struct Gated {
    int64_t channels, size, shortcut_size, stride;
    const float *x, *gate, *shortcut;
    float *out;
};
void gate_rows(const Gated &g, int64_t first_row, int64_t end_row);

// Rows of a map of twice the size, bilinear; the corner pixels' centers stay where they are.
void double_rows(const float *map, int64_t size, int64_t channels, float *out, int64_t first_row,
                 int64_t end_row);

// sums [channels] += all pixels of a map's rows.
void sum_rows(const float *map, int64_t size, int64_t channels, int64_t first_row, int64_t end_row,
              float *sums);

// out[i] = sum over k of weights[i][k] * x[k]; depth a multiple of 8.
void multiply_vector(const float *weights, int64_t rows, int64_t depth, const float *x, float *out);

}  // namespace doppelgan
