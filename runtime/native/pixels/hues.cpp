// Edits that take color away and bring none: a person's own hue fades as that of the picture does.

#include "compiler.h"
#include "pixel_kernels.h"
#include "places.h"
#include "scratch.h"
#include "threads.h"

namespace doppelgan {
namespace {

constexpr float NO_HUE = 1e-3f;  // squared: a hue so small is as good as none

// What [size] pixels of a row have of each channel; a pixel's hue is its color without its luma.
struct Row {
    const float *red, *green, *blue;

    Row(const float *first, int64_t plane) : red(first), green(first + plane), blue(first + 2 * plane) {}
};

ALWAYS_INLINE float luma(float red, float green, float blue) { return 0.299f * red + 0.587f * green + 0.114f * blue; }

MULTIVERSION void fade_row(const Row &moved, const Row &edited, const Row &hue, int64_t count, float *RESTRICT red,
                           float *RESTRICT green, float *RESTRICT blue) {
    for (int64_t i = 0; i < count; ++i) {
        const float r = clamped(moved.red[i], -1, 1), g = clamped(moved.green[i], -1, 1), b = clamped(moved.blue[i], -1, 1);
        const float to_r = clamped(edited.red[i], -1, 1), to_g = clamped(edited.green[i], -1, 1),
                    to_b = clamped(edited.blue[i], -1, 1);
        const float light = luma(r, g, b), to_light = luma(to_r, to_g, to_b);
        const float along =
            (r - light) * (to_r - to_light) + (g - light) * (to_g - to_light) + (b - light) * (to_b - to_light);
        const float own = (r - light) * (r - light) + (g - light) * (g - light) + (b - light) * (b - light);
        const float gone = 1 - clamped((along + NO_HUE) / (own + NO_HUE), 0, 1), lighter = to_light - light;
        red[i] = r + lighter - gone * hue.red[i];
        green[i] = g + lighter - gone * hue.green[i];
        blue[i] = b + lighter - gone * hue.blue[i];
    }
}

}  // namespace

void fade_hues(float *out, const float *moved, const float *edited, const float *hues, int64_t size, int64_t cells,
               int threads) {
    const int64_t plane = size * size;
    Place *columns = scratch<Place, 31>(static_cast<size_t>(size));
    for (int64_t i = 0; i < size; ++i) columns[i] = cell_of(i, size, cells);
    in_bands(size, 4 * size, threads, [&](int64_t begin, int64_t end) {
        float *line = scratch<float, 32>(static_cast<size_t>(3 * size));
        for (int64_t y = begin; y < end; ++y) {
            const Place row = cell_of(y, size, cells);
            for (int64_t k = 0; k < 3; ++k) {
                const float *above = hues + (k * cells + row.left) * cells, *below = hues + (k * cells + row.right) * cells;
                for (int64_t i = 0; i < size; ++i) {
                    const Place &at = columns[i];
                    const float top = above[at.left] + (above[at.right] - above[at.left]) * at.share;
                    const float bottom = below[at.left] + (below[at.right] - below[at.left]) * at.share;
                    line[k * size + i] = top + (bottom - top) * row.share;
                }
            }
            float *red = out + y * size;
            fade_row({moved + y * size, plane}, {edited + y * size, plane}, {line, size}, size, red, red + plane,
                     red + 2 * plane);
        }
    });
}

}  // namespace doppelgan
