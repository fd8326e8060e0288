// Winograd's transforms of lines of pixels, eight channels at a time; what they do to the weights is in
// packed_weights.cpp. Like vectors.h, all of this is local to the file that includes it.
#pragma once

#include "vectors.h"

namespace doppelgan {
namespace {

// F(4, 3), points 0, +-1, +-2 and infinity: six pixels -> four sums of three taps.
inline void into_winograd(const Vector d[6], Vector t[6]) {
    const Vector a = d[4] - 4.0f * d[2], b = d[3] - 4.0f * d[1];
    const Vector c = d[4] - d[2], e = 2.0f * (d[3] - d[1]);
    t[0] = 4.0f * d[0] - 5.0f * d[2] + d[4];
    t[1] = a + b;
    t[2] = a - b;
    t[3] = c + e;
    t[4] = c - e;
    t[5] = 4.0f * d[1] - 5.0f * d[3] + d[5];
}

inline void from_winograd(const Vector m[6], Vector y[4]) {
    const Vector a = m[1] + m[2], b = m[1] - m[2], c = m[3] + m[4], e = m[3] - m[4];
    y[0] = m[0] + a + c;
    y[1] = b + 2.0f * e;
    y[2] = a + 4.0f * c;
    y[3] = b + 8.0f * e + m[5];
}

// F(4, 2), points 0, +-1, 2 and infinity: five pixels -> four sums of two taps.
inline void into_winograd_of_two(const Vector d[5], Vector t[5]) {
    const Vector a = d[3] - d[1], b = 2.0f * (d[2] - d[1]);
    t[0] = 2.0f * (d[0] - d[2]) + a;
    t[1] = d[3] - d[2] - 2.0f * d[1];
    t[2] = a - b - d[2] + d[1];
    t[3] = a;
    t[4] = d[4] - d[2] - 2.0f * a;
}

inline void from_winograd_of_two(const Vector m[5], Vector y[4]) {
    const Vector a = m[1] + m[2], b = m[1] - m[2];
    y[0] = m[0] + a + m[3];
    y[1] = b + 2.0f * m[3];
    y[2] = a + 4.0f * m[3];
    y[3] = b + 8.0f * m[3] + m[4];
}

}  // namespace
}  // namespace doppelgan
