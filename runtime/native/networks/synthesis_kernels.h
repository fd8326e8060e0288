// The arithmetic of a StyleGAN2 synthesis network on a CPU: what synthesis.cpp calls for every part of a
// layer.
//
// Feature maps are NHWC with one pixel of zeros around them: [size + 2][size + 2][channels], channels padded
// with zeros to a multiple of 8. A map is stored already multiplied by the style of the convolution that
// reads it. Nothing here allocates, throws or uses the standard library: this file is compiled for newer
// processors than the rest, and what the linker shares between files must not be.
#pragma once

#include <cstdint>

#include "packed_weights.h"

namespace doppelgan {

constexpr int64_t TILE = 4;  // Winograd: pixels per side of a tile, F(4x4, 3x3) and F(4x4, 2x2)
constexpr int64_t POSITIONS = (TILE + 2) * (TILE + 2);
constexpr int64_t STEP = 4;  // up-sampling: input rows that share a pass over the weights
constexpr int64_t TAPS = 9;
constexpr int64_t UP_POSITIONS = 36;  // matrices of an up-sampling Winograd convolution

// A feature map to be read: floats, or halves (bfloat16) in their place.
struct ConstMap {
    const float *floats;
    const uint16_t *halves;
};

// One to be written. `large`: larger than the caches, and stored past them.
struct Map {
    float *floats;
    uint16_t *halves;
    bool large;

    explicit operator bool() const { return floats != nullptr || halves != nullptr; }
};

// One modulated convolution with all that follows it, for one picture:
//   y = clamp(leaky(convolution(x) * demod + noise + bias)), stored times `style`,
//   rgb += clamp(rgb_weights . y + rgb_bias)
struct Convolution {
    int64_t inputs, outputs;            // channels, padded
    int64_t in_size, size;              // pixels per side of x and y
    PackedWeights weights;              // for one of the kernels below
    ConstMap x;                         // [in_size + 2][in_size + 2][inputs]; halves for Winograd alone
    Map y;                              // [size + 2][size + 2][outputs]; none: only the RGB is wanted
    const float *demod, *bias;          // [outputs]
    const float *style;                 // [outputs], of the convolution that reads y; nullptr without y
    const float *noise;                 // [size][size]
    float clamp;                        // of the activations; infinity where there is none
    const float *rgb_weights;           // [3][outputs], or nullptr
    const float *rgb_bias;              // [3]
    float rgb_clamp;
    float *rgb;                        // [3][size][size], added to
    float fir_down[4], fir_across[4];  // of an up-sampling convolution: its FIR is their outer product
};

constexpr int64_t MOST_PICTURES = 3;

// The same convolution for several pictures, which share a pass over the weights. They differ in x, y, demod,
// style, rgb_weights and rgb alone.
struct Pictures {
    const Convolution *each;  // [count]
    int64_t count;
    int64_t maps;  // to be convolved: one per picture, or 1 where all pictures read the same x
    int64_t first_row, end_row;  // of every map, to be computed; of x where it is doubled, of y elsewhere

    int64_t rows() const { return end_row - first_row; }

    // Those that the products of map `m` belong to: first, and how many.
    int64_t first_of(int64_t m) const { return maps == 1 ? 0 : m; }
    int64_t end_of(int64_t m) const { return maps == 1 ? count : m + 1; }
};

// weights: POSITIONS matrices. Tiles count row by row, map after map, over the pictures' rows, which begin and
// end at whole tiles; scratch: winograd_scratch() floats.
void convolve_winograd(const Pictures &pictures, int64_t first_tile, int64_t end_tile, float *scratch);
int64_t winograd_scratch(const Convolution &c, int64_t tiles);

// weights: TAPS packed as taps. All rows; they count map after map; scratch: direct_scratch() floats.
void convolve_direct(const Pictures &pictures, int64_t first_row, int64_t end_row, float *scratch);
int64_t direct_scratch(const Convolution &c, int64_t rows);

// Rows of x and output channels, whole panels, that are computed at once.
struct Part {
    int64_t first_row, end_row, first_channel, end_channel;
};

// Transposed convolution with stride 2, then the FIR. weights: TAPS packed as taps, in the order of UP_TAPS.
// Each row of x makes two of y. scratch: up_scratch() floats.
void convolve_up(const Pictures &pictures, const Part &part, float *scratch);
int64_t up_scratch(const Convolution &c, int64_t channels);
constexpr int UP_TAPS[TAPS] = {0, 2, 6, 8, 1, 7, 3, 5, 4};  // even/even, even/odd, odd/even, odd/odd pixels

// The same by Winograd's F(4, 2): pixels of y in even rows or columns see two of three taps there, the others
// one. weights: UP_POSITIONS matrices, see up_into_winograd(). Rows of the part begin and end at whole tiles;
// scratch: up_winograd_scratch() floats.
void convolve_up_winograd(const Pictures &pictures, const Part &part, float *scratch);
int64_t up_winograd_scratch(const Convolution &c, int64_t maps, int64_t rows, int64_t channels);

// Rows of out [3][2 size][2 size] = the RGB picture [3][size][size] doubled with the FIR. scratch: size + 2
// floats.
void upsample_rgb(const float *picture, int64_t size, const float fir_down[4], const float fir_across[4],
                  float *out, int64_t first_row, int64_t end_row, float *scratch);

// Sum of a[i] * b[i]; n a multiple of 8.
float dot(const float *a, const float *b, int64_t n);

}  // namespace doppelgan
