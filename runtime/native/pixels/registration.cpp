// Where a face has gone from one picture to the next: Gauss and Newton on a similarity, light and haze.

#include "compiler.h"
#include "pixel_kernels.h"
#include "scratch.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <limits>

namespace doppelgan {
namespace {

constexpr int LANES = 8;     // cells at a time: sums of their own, so that they need not be in order
constexpr int UNKNOWNS = 6;  // growth, turn, shift across and down; light and haze
constexpr int SUMS = UNKNOWNS * (UNKNOWNS + 1) / 2 + UNKNOWNS;

// Complex numbers without the library's care for infinities.
struct Complex {
    double real, imag;
};
ALWAYS_INLINE Complex operator*(Complex a, Complex b) {
    return {a.real * b.real - a.imag * b.imag, a.real * b.imag + a.imag * b.real};
}
ALWAYS_INLINE Complex operator+(Complex a, Complex b) { return {a.real + b.real, a.imag + b.imag}; }
ALWAYS_INLINE double size_of(Complex a) { return std::hypot(a.real, a.imag); }

Complex inverse(Complex a) {
    const double square = a.real * a.real + a.imag * a.imag;
    return {a.real / square, -a.imag / square};
}

// What lies in the picture where the cells have come to, less what was known of them.
MULTIVERSION void errors(const KnownFace &face, const float *RESTRICT picture, int64_t size, Complex turn,
                         Complex shift, float gain, float haze, float *RESTRICT out) {
    const float side = static_cast<float>(size), last = side - 1.001f;
    const float real = static_cast<float>(turn.real) * side, imag = static_cast<float>(turn.imag) * side;
    const float right = static_cast<float>((shift.real + 0.5) * static_cast<double>(size) - 0.5);
    const float below = static_cast<float>((shift.imag + 0.5) * static_cast<double>(size) - 0.5);
    for (int64_t i = 0; i < face.count; ++i) {
        const float x = std::min(std::max(real * face.x[i] - imag * face.y[i] + right, 0.0f), last);
        const float y = std::min(std::max(imag * face.x[i] + real * face.y[i] + below, 0.0f), last);
        const int32_t column = static_cast<int32_t>(x), row = static_cast<int32_t>(y);
        const float across = x - static_cast<float>(column), down = y - static_cast<float>(row);
        const float *at = picture + row * size + column;
        const float upper = at[0] + (at[1] - at[0]) * across;
        const float lower = at[size] + (at[size + 1] - at[size]) * across;
        out[i] = upper + (lower - upper) * down - (gain * face.known[i] + haze);
    }
}

// Sums over the cells of weight * slope * slope' (the upper triangle, row by row), then of weight * slope * error.
MULTIVERSION void normal_equations(const KnownFace &face, const float *RESTRICT error, float usual,
                                   double *RESTRICT sums) {
    float lanes[SUMS][LANES] = {};
    const float scale = 1 / usual;
    for (int64_t begin = 0; begin < face.count; begin += LANES) {
        const int64_t rest = std::min<int64_t>(LANES, face.count - begin);
        float weight[LANES] = {}, wrong[LANES] = {}, slope[UNKNOWNS][LANES] = {};
        for (int64_t i = 0; i < rest; ++i) {
            wrong[i] = error[begin + i];
            weight[i] = face.weight[begin + i];
            for (int k = 0; k < UNKNOWNS; ++k) slope[k][i] = face.slopes[k * face.count + begin + i];
        }
        for (int i = 0; i < LANES; ++i) weight[i] /= 1 + wrong[i] * scale * (wrong[i] * scale);
        int at = 0;
        for (int a = 0; a < UNKNOWNS; ++a)
            for (int b = a; b < UNKNOWNS; ++b, ++at)
                for (int i = 0; i < LANES; ++i) lanes[at][i] += weight[i] * slope[a][i] * slope[b][i];
        for (int a = 0; a < UNKNOWNS; ++a, ++at)
            for (int i = 0; i < LANES; ++i) lanes[at][i] += weight[i] * slope[a][i] * wrong[i];
    }
    for (int k = 0; k < SUMS; ++k) {
        sums[k] = 0;
        for (int i = 0; i < LANES; ++i) sums[k] += static_cast<double>(lanes[k][i]);
    }
}

// Solves the symmetric a * x = b in place (Cholesky); false where a is not positive.
bool solve(double a[UNKNOWNS][UNKNOWNS], double b[UNKNOWNS]) {
    for (int i = 0; i < UNKNOWNS; ++i) {
        for (int j = 0; j <= i; ++j) {
            double sum = a[i][j];
            for (int k = 0; k < j; ++k) sum -= a[i][k] * a[j][k];
            if (i != j)
                a[i][j] = sum / a[j][j];
            else if (sum > 0)
                a[i][i] = std::sqrt(sum);
            else
                return false;
        }
        for (int k = 0; k < i; ++k) b[i] -= a[i][k] * b[k];
        b[i] /= a[i][i];
    }
    for (int i = UNKNOWNS - 1; i >= 0; --i) {
        for (int k = i + 1; k < UNKNOWNS; ++k) b[i] -= a[k][i] * b[k];
        b[i] /= a[i][i];
    }
    return true;
}

}  // namespace

MULTIVERSION void know_face(float *RESTRICT known, float *RESTRICT slopes, const float *RESTRICT picture,
                            int64_t size, const int32_t *RESTRICT cells, const float *RESTRICT x,
                            const float *RESTRICT y, int64_t count) {
    const int64_t last = size * size - 1;
    const float half = 0.5f * static_cast<float>(size);
    for (int64_t i = 0; i < count; ++i) {
        const int64_t at = cells[i];
        const float across = (picture[std::min(at + 1, last)] - picture[std::max<int64_t>(at - 1, 0)]) * half;
        const float down = (picture[std::min(at + size, last)] - picture[std::max<int64_t>(at - size, 0)]) * half;
        known[i] = picture[at];
        slopes[i] = across * x[i] + down * y[i];
        slopes[count + i] = down * x[i] - across * y[i];
        slopes[2 * count + i] = across;
        slopes[3 * count + i] = down;
        slopes[4 * count + i] = picture[at];
        slopes[5 * count + i] = 1;
    }
}

bool find_face(const KnownFace &face, const float *picture, int64_t size, const Search &search,
               double place[4]) {
    float *error = scratch<float, 31>(static_cast<size_t>(face.count));
    float *sorted = scratch<float, 32>(static_cast<size_t>(face.count));
    Complex turn{1, 0}, shift{0, 0};
    double gain = 1, haze = 0;
    for (int step = 0; step < search.steps; ++step) {
        errors(face, picture, size, turn, shift, static_cast<float>(gain), static_cast<float>(haze), error);
        for (int64_t i = 0; i < face.count; ++i)  // NaN has no place in an order
            sorted[i] = std::abs(error[i]) >= 0 ? std::abs(error[i]) : std::numeric_limits<float>::infinity();
        std::nth_element(sorted, sorted + face.count / 2, sorted + face.count);
        const double usual = 1.5 * static_cast<double>(sorted[face.count / 2]) + 1e-3;

        double sums[SUMS], a[UNKNOWNS][UNKNOWNS], b[UNKNOWNS];
        normal_equations(face, error, static_cast<float>(usual), sums);
        const double so_far[UNKNOWNS] = {turn.real - 1, turn.imag, shift.real, shift.imag, 0, 0};
        int at = 0;
        for (int i = 0; i < UNKNOWNS; ++i)
            for (int j = i; j < UNKNOWNS; ++j, ++at) a[i][j] = a[j][i] = sums[at];
        for (int i = 0; i < UNKNOWNS; ++i, ++at) {
            const double sure = search.noise * usual * usual / (search.expected[i] * search.expected[i]);
            a[i][i] += sure;
            b[i] = sums[at] + sure * so_far[i];
        }
        if (!solve(a, b)) return false;

        // The step is taken back: it says how the known face would have to move towards the picture.
        const Complex back = inverse({1 + b[0], b[1]}), moved{b[2], b[3]};
        turn = turn * back;
        shift = turn * Complex{-moved.real, -moved.imag} + shift;
        gain += b[4], haze += b[5];
        const double far = size_of(shift) + size_of({turn.real - 1, turn.imag}) / 3;
        if (!(far < search.large) || usual > search.unlike) return false;
        const double small = size_of(moved) + std::hypot(b[0], b[1]) / 3;
        if (small * static_cast<double>(size) < search.small) break;
    }
    const double found[4] = {turn.real, turn.imag, shift.real, shift.imag};
    std::memcpy(place, found, sizeof found);
    return true;
}

}  // namespace doppelgan
