// How much of an edit is added to each cell: what is no leak, what belongs to it, what it hides, what it reaches.

#include "blur.h"
#include "compiler.h"
#include "map_kernels.h"
#include "maps.h"
#include "scratch.h"

#include <algorithm>
#include <cmath>

namespace doppelgan {
namespace {

constexpr int64_t CHANNELS = 3;
constexpr float KNOWN = 1e-3f;  // where nothing changes, all of it

MULTIVERSION void cover(const float *RESTRICT change, const float *RESTRICT drawn, int64_t cells, float darkest,
                        float *RESTRICT out) {
    for (int64_t i = 0; i < cells; ++i) out[i] = std::max(-change[i] / std::max(drawn[i], darkest), out[i]);
}

MULTIVERSION void limit(float *RESTRICT map, int64_t cells, float most) {
    for (int64_t i = 0; i < cells; ++i) map[i] = std::min(map[i], most);
}

MULTIVERSION void multiply(const float *RESTRICT a, const float *RESTRICT b, int64_t cells, float *RESTRICT out) {
    for (int64_t i = 0; i < cells; ++i) out[i] = a[i] * b[i];
}

MULTIVERSION void square(const float *RESTRICT a, int64_t cells, float *RESTRICT out) {
    for (int64_t i = 0; i < cells; ++i) out[i] = a[i] * a[i];
}

MULTIVERSION void reach(const float *RESTRICT wanted, const float *RESTRICT whole, const float *RESTRICT hidden,
                        const float *RESTRICT near, float sheer, float most, int64_t cells, float *RESTRICT out) {
    for (int64_t i = 0; i < cells; ++i) {
        const float share = (wanted[i] + KNOWN) / (whole[i] + KNOWN);
        const float more = std::min(1 + hidden[i] * (share - 1), most);
        out[i] = std::max(share < 1 ? share : more, 0.0f) * (1 - sheer * (hidden[i] * near[i]));
    }
}

MULTIVERSION void count_from(float *RESTRICT map, int64_t cells, float leak) {
    for (int64_t i = 0; i < cells; ++i) map[i] = ramp((map[i] - leak) / leak);
}

struct Sums {
    float changed, changed_inside, strong_inside, face;
};

MULTIVERSION Sums sums_of(const float *RESTRICT strong, const float *RESTRICT amplitude,
                          const float *RESTRICT face, int64_t cells) {
    return {sum_of(cells, [&](int64_t i) { return amplitude[i] * strong[i]; }),
            sum_of(cells, [&](int64_t i) { return amplitude[i] * strong[i] * face[i]; }),
            sum_of(cells, [&](int64_t i) { return strong[i] * face[i]; }),
            sum_of(cells, [&](int64_t i) { return face[i]; })};
}

MULTIVERSION void hold(const float *RESTRICT near, float share, int64_t cells, float *RESTRICT out) {
    for (int64_t i = 0; i < cells; ++i) out[i] = 1 - share * (1 - near[i]);
}

MULTIVERSION void multiply_all(const Weights &maps, int64_t cells, float *RESTRICT out) {
    const float *RESTRICT strong = maps.strong, *RESTRICT belonging = maps.belonging;
    const float *RESTRICT agreement = maps.agreement, *RESTRICT window = maps.window;
    for (int64_t i = 0; i < cells; ++i) out[i] = strong[i] * belonging[i] * agreement[i] * window[i];
}

// 0..1: where the person's own pixels are no longer what is to be reached.
MULTIVERSION void let_go(const float *RESTRICT flow, const float *RESTRICT inside, int64_t cells, float far,
                         float *RESTRICT out) {
    for (int64_t i = 0; i < cells; ++i) {
        const float x = flow[i], y = flow[cells + i];
        out[i] = std::max(inside[i], ramp(std::sqrt(x * x + y * y) / far - 0.5f));
    }
}

MULTIVERSION void amount(const float *RESTRICT gain, const float *RESTRICT limit, const float *RESTRICT gone,
                         const float *RESTRICT weight, int64_t cells, float *RESTRICT out) {
    for (int64_t i = 0; i < cells; ++i) out[i] = gain[i] * (limit[i] + (1 - limit[i]) * gone[i]) * weight[i];
}

}  // namespace

void blurred(float *out, const float *maps, int64_t count, int64_t size, double sigma) {
    const Blur &blur = blur_of(size, sigma);
    for (int64_t n = 0; n < count; ++n) blur(maps + n * size * size, out + n * size * size);
}

void covered(float *out, const float *change, const float *drawn, int64_t size, double near, float darkest) {
    const int64_t cells = size * size;
    const Blur &blur = blur_of(size, near);
    float *smooth = scratch<float, 44>(static_cast<size_t>(cells));
    std::fill_n(out, cells, 0.0f);
    for (int64_t channel = 0; channel < CHANNELS; ++channel) {
        blur(change + channel * cells, smooth);
        cover(smooth, drawn + channel * cells, cells, darkest, out);
    }
    limit(out, cells, 1.0f);
}

void reachable(float *out, const float *change, const float *missing, const float *hidden, const float *near,
               int64_t size, const ReachRules &rules) {
    const int64_t cells = size * size;
    const Blur &blur = blur_of(size, rules.near);
    float *wanted = scratch<float, 44>(static_cast<size_t>(2 * cells)), *whole = wanted + cells;
    multiply(hidden, near, cells, wanted);
    const float dark = (nearly_most(wanted, size) - rules.begins) / (rules.ends - rules.begins);
    const float sheer = rules.sheer * ramp(dark);
    for (int64_t channel = 0; channel < CHANNELS; ++channel) {
        const float *changed = change + channel * cells;
        multiply(changed, missing + channel * cells, cells, wanted);
        square(changed, cells, whole);
        blur(wanted, wanted);
        blur(whole, whole);
        reach(wanted, whole, hidden, near, sheer, rules.most, cells, out + channel * cells);
    }
}

void strength(float *out, const float *amplitude, int64_t size, double near, float least, float share,
              float sure) {
    blur_of(size, near)(amplitude, out);
    count_from(out, size * size, sure * std::max(least, share * nearly_most(out, size)));
}

void belonging(float *out, const float *strong, const float *amplitude, const float *face, const float *near,
               int64_t size, const BelongingRules &rules) {
    const int64_t cells = size * size;
    const Sums sums = sums_of(strong, amplitude, face, cells);
    const float inside = sums.changed_inside / std::max(sums.changed, 1e-6f);
    const float whole = sums.strong_inside / std::max(sums.face, 1e-6f);
    const float on_face = ramp((inside - rules.on_face[0]) / (rules.on_face[1] - rules.on_face[0]));
    const float part = 1 - ramp((whole - rules.whole[0]) / (rules.whole[1] - rules.whole[0]));
    hold(near, on_face * part, cells, out);
}

void amounts(float *out, const float *gain, const float *limit, const Weights &weights, const float *flow,
             const float *inside, int64_t size, float far) {
    const int64_t cells = size * size;
    float *weight = scratch<float, 44>(static_cast<size_t>(2 * cells)), *gone = weight + cells;
    multiply_all(weights, cells, weight);
    if (flow)
        let_go(flow, inside, cells, far, gone);
    else
        std::fill_n(gone, cells, 0.0f);
    for (int64_t at = 0; at < CHANNELS * cells; at += cells)
        amount(gain + at, limit + at, gone, weight, cells, out + at);
}

}  // namespace doppelgan
