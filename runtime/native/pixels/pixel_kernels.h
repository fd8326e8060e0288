// The pixel kernels, free of Python. Their behavior is defined by the NumPy twins in reference.py.
#pragma once

#include <cstdint>

namespace doppelgan {

// Affine map from one pixel grid to another, row major [2,3]; integer coordinates are pixel centers.
struct Affine {
    double xx, xy, x0;  // x' = xx * x + xy * y + x0
    double yx, yy, y0;  // y' = yx * x + yy * y + y0
};

// What lies outside an image: reference.py, BORDERS.
enum class Border { REFLECT, REPEAT, BLACK };

// What is wrong with the arguments, or nullptr: see matrix_problem() in reference.py.
const char *matrix_problem(const Affine &matrix, int64_t size);

// Frame -> network input. The matrix maps crop pixels to frame pixels.
void warp_crop(const uint8_t *image,  // [height,width,3] BGR
               int64_t height, int64_t width, const Affine &crop_to_frame,
               float *out,  // [3,size,size] RGB, -1..1
               int64_t size, Border border, int threads);

// Network output -> frame, in place. The matrix maps image pixels to frame pixels.
void paste(uint8_t *frame,  // [height,width,3] BGR
           int64_t height, int64_t width,
           const float *image,  // [3,size,size] RGB, nominally -1..1
           const float *mask,   // [size,size], 0..1, or nullptr for 1 everywhere
           int64_t size, const Affine &image_to_frame,
           const float gain[3],    // RGB
           const float offset[3],  // RGB
           int threads);

// The whole frame from a small picture of it, interpolated from pixel to pixel.
void stretch(uint8_t *frame,  // [height,width,3], written
             int64_t height, int64_t width,
             const uint8_t *small,  // [rows,columns,3]
             int64_t rows, int64_t columns, int threads);

// A convex region with a soft edge.
void soft_region(
    float *out,  // [size,size], written, 0..1
    int64_t size,
    const float *lines,  // [count,3] a, b, c: inside is where a * x + b * y <= c, (a, b) of length 1
    int64_t count,
    const float *fade,  // [size]: factor of column and row
    float width,        // px, from a line to where the edge ends, on either side
    int threads);

// What an edit adds to a person's pixels once those have moved by `flow`.
void difference(float *change,       // [3,size,size], written
                float *amplitude,    // [cells,cells], written: the largest magnitude of `change` in each cell
                const float *plain,  // [3,size,size] RGB, nominally -1..1
                const float *moved, const float *edited,
                const float *flow,    // [2,cells,cells] x, y in pixels, or nullptr: then the next are not read
                const float *inside,  // [cells,cells]
                const float *rest,    // [cells,cells]
                float *means,         // [6,cells,cells], written: of change, then of edited; or nullptr
                int64_t size, int64_t cells, int threads);

// `moved`, as light as `edited`, its own hues kept.
void lightened(float *out,          // [3,size,size], written
               const float *moved,  // [3,size,size] RGB, nominally -1..1
               const float *edited, int64_t size, int threads);

// Takes away a share of each pixel's own hue, in place; what is left is grey in the light's tint. The matrix maps cells to
// frame pixels.
void fade_pixels(uint8_t *frame,  // [height,width,3] BGR
                 int64_t height, int64_t width,
                 const float *share,  // [cells,cells], 0..1
                 const float *tint,   // [3,cells,cells] RGB: the light's color over its luma
                 int64_t cells, const Affine &cells_to_frame, int threads);

// Moves the frame's own pixels by `flow` and adds `gain * change` to them, in place. The matrix maps picture
// pixels to frame pixels.
void add_difference(uint8_t *frame,  // [height,width,3] BGR
                    int64_t height, int64_t width,
                    const float *change,  // [3,size,size] RGB, in units of -1..1
                    int64_t size,
                    const float *gain,  // [3,cells,cells] RGB
                    const float *flow,  // [2,cells,cells] x, y in pixels of the picture, or nullptr
                    int64_t cells, const Affine &picture_to_frame, int threads);

// Adds a tile that repeats from the frame's corner to all channels, as strongly as the fine detail there says.
void add_tile(uint8_t *frame,  // [height,width,3], changed
              int64_t height, int64_t width,
              const int8_t *tile,  // [size,size], 32nds
              int64_t size,
              const uint8_t *strengths,  // [256], 64ths, up to 240: by activity, in quarters of a level
              int threads);

// Means of blocks of [count,size,size]: [count,cells,cells]; cells divide size.
void cell_means(float *out, const float *planes, int64_t count, int64_t size, int64_t cells, int threads);

// z -> turn * z + shift of x + iy, in shares of a map's side from its middle.
struct Turn {
    double real, imag, x, y;
};

// [count,size,size]: what lies where each cell comes to, between cells linearly, edges going on.
void read_cells(float *out, const float *maps, int64_t count, int64_t size, const Turn &to);

// Blurs to be summed, each a product of two matrices; their strength is in one of them.
struct Blurs {
    const float *down;    // [count,cells,cells]: what a row takes of each
    const float *across;  // [count,cells,cells]: what each column gives to others
    int64_t count;
};

// The mean shift of points, each weighed by how near it lies, as the blurs say.
void spread(float *out,  // [2,cells,cells] x, y, written
            int64_t cells,
            const double *place,  // [count,2] x, y in cells
            const double *shift,  // [count,2]
            int64_t count, const Blurs &blurs, int threads);

// A face as one picture shows it, ready to be found in the next.
struct KnownFace {
    const float *x, *y;    // [count] cells, in shares of the picture's side from its middle
    const float *known;    // [count]
    const float *slopes;   // [6,count]: what growing, turning, shifts across and down, light and haze change
    const float *weight;   // [count]
    int64_t count;
};

// What cells [count] of a picture [size,size] show, and what moving, light and haze change of it: known [count] and
// slopes [6,count] of a KnownFace. x, y: as there.
void know_face(float *known, float *slopes, const float *picture, int64_t size, const int32_t *cells,
               const float *x, const float *y, int64_t count);

// How long and how far to search; what each is: FaceSearch in reference.py.
struct Search {
    int steps;
    double small, large, unlike, noise;
    double expected[6];
};

// Finds the face in a picture [size,size]; place: turn x, y and shift x, y of the similarity. False: not found.
bool find_face(const KnownFace &face, const float *picture, int64_t size, const Search &search,
               double place[4]);

// Whether AVX2 serves from now on, where the processor has it; so it does unless told otherwise. For tests.
bool use_avx2(bool wanted);

}  // namespace doppelgan
