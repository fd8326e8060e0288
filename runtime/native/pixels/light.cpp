// The person's light over the reconstruction's, and where the camera sees what was reconstructed.

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

// The largest magnitude of any channel's a - b * c.
MULTIVERSION void largest_error(const float *RESTRICT a, const float *RESTRICT b, const float *RESTRICT c,
                                int64_t cells, float *RESTRICT out) {
    for (int64_t i = 0; i < cells; ++i) {
        const float red = std::abs(a[i] - b[i] * c[i]);
        const float green = std::abs(a[cells + i] - b[cells + i] * c[cells + i]);
        const float blue = std::abs(a[2 * cells + i] - b[2 * cells + i] * c[2 * cells + i]);
        out[i] = std::max(std::max(red, green), blue);
    }
}

MULTIVERSION void largest_error(const float *RESTRICT a, const float *RESTRICT b, int64_t cells,
                                float *RESTRICT out) {
    for (int64_t i = 0; i < cells; ++i) {
        const float red = std::abs(a[i] - b[i]), green = std::abs(a[cells + i] - b[cells + i]);
        const float blue = std::abs(a[2 * cells + i] - b[2 * cells + i]);
        out[i] = std::max(std::max(red, green), blue);
    }
}

// How much a cell says about the light; returns the sum of it.
MULTIVERSION float weigh(const float *RESTRICT error, const float *RESTRICT face, int64_t cells, float doubtful,
                         float *RESTRICT weight) {
    for (int64_t i = 0; i < cells; ++i) {
        const float doubt = error[i] / doubtful;
        weight[i] = face[i] * exp_of_negative(-(doubt * doubt));
    }
    return sum_of(cells, [&](int64_t i) { return weight[i]; });
}

MULTIVERSION float multiply(const float *RESTRICT a, const float *RESTRICT b, int64_t cells, float *RESTRICT out) {
    for (int64_t i = 0; i < cells; ++i) out[i] = a[i] * b[i];
    return sum_of(cells, [&](int64_t i) { return out[i]; });
}

MULTIVERSION void divide(const float *RESTRICT seen, const float *RESTRICT drawn, float known,
                         const LightRules &rules, int64_t cells, float *RESTRICT out) {
    const float prior = rules.prior, least = rules.least, most = rules.most;
    for (int64_t i = 0; i < cells; ++i)
        out[i] = within((seen[i] + known) / (drawn[i] + prior), least, most);
}

// From what is new, how far it is from the usual and where the face is: how much agrees, and what is learnt.
MULTIVERSION void follow(float *RESTRICT varied, float *RESTRICT shown, float *RESTRICT learning,
                         const float *RESTRICT apart, const float *RESTRICT face,
                         const float *RESTRICT varied_before, const float *RESTRICT shown_before, int64_t cells,
                         const AgreementShares &by, const AgreementRules &rules) {
    const AgreementShares shares = by;
    const AgreementRules is = rules;
    for (int64_t i = 0; i < cells; ++i) {
        const float least = std::min(is.known + is.varied * std::sqrt(varied_before[i]), is.unknown);
        const float foreign = is.unknown + (least - is.unknown) * shares.familiar * face[i];
        const float agreement = 1 - ramp((apart[i] / foreign - (1 - is.unsure)) / (2 * is.unsure));
        learning[i] = agreement * shares.learnt;
        varied[i] = varied_before[i] + learning[i] * (apart[i] * apart[i] - varied_before[i]);
        const float share = agreement < std::min(shown_before[i], 0.5f) ? shares.cover : shares.uncover;
        shown[i] = shown_before[i] + share * (agreement - shown_before[i]);
    }
}

MULTIVERSION void learn(float *RESTRICT usual, const float *RESTRICT before, const float *RESTRICT error,
                        const float *RESTRICT learning, int64_t cells) {
    for (int64_t i = 0; i < cells; ++i) usual[i] = before[i] + learning[i] * (error[i] - before[i]);
}

}  // namespace

bool read_light(float *out, const float *seen, const float *drawn, const float *face, const float *gain,
                int64_t size, const LightRules &rules) {
    const int64_t cells = size * size;
    float *weight = scratch<float, 44>(static_cast<size_t>(3 * cells));
    float *seen_there = weight + cells, *drawn_there = seen_there + cells;
    largest_error(seen, gain, drawn, cells, seen_there);
    blur_of(size, rules.near)(seen_there, seen_there);
    const float all = weigh(seen_there, face, cells, rules.doubtful, weight);
    if (all < rules.fewest * static_cast<float>(cells)) return false;
    const Blur &widely = blur_of(size, rules.reach);
    for (int64_t channel = 0; channel < CHANNELS; ++channel) {
        const int64_t at = channel * cells;
        const float seen_sum = multiply(weight, seen + at, cells, seen_there);
        const float drawn_sum = multiply(weight, drawn + at, cells, drawn_there);
        const float whole = within(seen_sum / std::max(drawn_sum, 1e-3f), rules.least, rules.most);
        widely(seen_there, seen_there);
        widely(drawn_there, drawn_there);
        divide(seen_there, drawn_there, rules.prior * whole, rules, cells, out + at);
    }
    return true;
}

void agree(float *usual, float *varied, float *shown, const float *error, const float *face,
           const AgreementState &before, int64_t size, const AgreementShares &shares,
           const AgreementRules &rules) {
    const int64_t cells = size * size;
    float *apart = scratch<float, 44>(static_cast<size_t>(2 * cells)), *learning = apart + cells;
    largest_error(error, before.usual, cells, apart);
    blur_of(size, rules.near)(apart, apart);
    follow(varied, shown, learning, apart, face, before.varied, before.shown, cells, shares, rules);
    for (int64_t channel = 0; channel < CHANNELS; ++channel) {
        const int64_t at = channel * cells;
        learn(usual + at, before.usual + at, error + at, learning, cells);
    }
}

}  // namespace doppelgan
