// The kernels on smooth maps of the aligned square, [size,size] each or several of them, free of Python. Their
// behavior is defined by the NumPy twins in reference_cells.py. Widths of blurs: cells of a map of 64.
#pragma once

#include <cstdint>

namespace doppelgan {

// [count,size,size], each by a Gaussian; borders count what lies inside.
void blurred(float *out, const float *maps, int64_t count, int64_t size, double sigma);

// What each is: masks.py.
struct LightRules {
    double near, reach;  // widths of blurs
    float doubtful, least, most, prior, fewest;
};

// One round of telling the light: out [3,size,size] from `gain`, the one so far. False, and nothing is written:
// next to nothing agrees.
bool read_light(float *out, const float *seen, const float *drawn, const float *face, const float *gain,
                int64_t size, const LightRules &rules);

struct AgreementRules {
    double near;  // width of a blur
    float unknown, known, varied, unsure;
};

// How far each map goes towards what is new in this step, 0..1.
struct AgreementShares {
    float familiar, learnt, cover, uncover;
};

// What was the usual error [3,size,size], how it varied and where the face was shown [size,size].
struct AgreementState {
    const float *usual, *varied, *shown;
};

void agree(float *usual, float *varied, float *shown, const float *error, const float *face,
           const AgreementState &before, int64_t size, const AgreementShares &shares,
           const AgreementRules &rules);

// How much of `drawn` [3,size,size] a change hides at least.
void covered(float *out, const float *change, const float *drawn, int64_t size, double near, float darkest);

struct ReachRules {
    double near;  // width of a blur
    float most, sheer, begins, ends;
};

// As a share of `change` [3,size,size], what of it leads to `missing`.
void reachable(float *out, const float *change, const float *missing, const float *hidden, const float *near,
               int64_t size, const ReachRules &rules);

// Where a change is no leak: largest changes [size,size] below `least`, and below `share` of the largest of all.
void strength(float *out, const float *amplitude, int64_t size, double near, float least, float share,
              float sure);

struct BelongingRules {
    float on_face[2], whole[2];
};

// `near` for an edit of something on the face, 1 for one of hair, skin or all there is.
void belonging(float *out, const float *strong, const float *amplitude, const float *face, const float *near,
               int64_t size, const BelongingRules &rules);

// By which a change is multiplied [3,size,size]: gain * limit, maps [size,size] each times the others. Where pixels
// have moved by `flow` [2,size,size] far enough, or `inside` says so, the limit is none; nullptr: nowhere.
struct Weights {
    const float *strong, *belonging, *agreement, *window;
};

void amounts(float *out, const float *gain, const float *limit, const Weights &weights, const float *flow,
             const float *inside, int64_t size, float far);

}  // namespace doppelgan
