// Where a face has gone from one picture to the next: Gauss and Newton on a similarity, light and haze.

#include "compiler.h"
#include "eight.h"
#include "pixel_kernels.h"
#include "scratch.h"

#include <algorithm>
#include <cmath>
#include <cstring>

namespace doppelgan {
namespace {

constexpr int UNKNOWNS = 6;  // growth, turn, shift across and down; light and haze

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

// Where the cells have come to: the first of the four around, and the shares of the second ones.
MULTIVERSION void place_cells(const float *RESTRICT xs, const float *RESTRICT ys, int64_t count, int64_t size,
                              Complex turn, Complex shift, int32_t *RESTRICT first, float *RESTRICT x_share,
                              float *RESTRICT y_share) {
    const float side = static_cast<float>(size), last = side - 1.001f;
    const float real = static_cast<float>(turn.real) * side, imag = static_cast<float>(turn.imag) * side;
    const float right = static_cast<float>((shift.real + 0.5) * static_cast<double>(size) - 0.5);
    const float below = static_cast<float>((shift.imag + 0.5) * static_cast<double>(size) - 0.5);
    const int32_t stride = static_cast<int32_t>(size);
    for (int64_t i = 0; i < count; ++i) {
        const float x = std::min(std::max(0.0f, real * xs[i] - imag * ys[i] + right), last);
        const float y = std::min(std::max(0.0f, imag * xs[i] + real * ys[i] + below), last);
        const int32_t column = static_cast<int32_t>(x), row = static_cast<int32_t>(y);
        first[i] = row * stride + column;
        x_share[i] = x - static_cast<float>(column);
        y_share[i] = y - static_cast<float>(row);
    }
}

// What lies there, less what was known of the cells; `error` holds the first shares before.
MULTIVERSION void read_errors(const float *RESTRICT picture, int64_t size, const int32_t *RESTRICT first,
                              const float *RESTRICT y_share, const float *RESTRICT known, int64_t count,
                              float gain, float haze, float *RESTRICT error) {
    const float *RESTRICT below = picture + size;
    for (int64_t i = 0; i < count; ++i) {
        const int64_t at = first[i];
        const float upper = picture[at] + (picture[at + 1] - picture[at]) * error[i];
        const float lower = below[at] + (below[at + 1] - below[at]) * error[i];
        error[i] = upper + (lower - upper) * y_share[i] - (gain * known[i] + haze);
    }
}

// The magnitudes as whole numbers of the same order; what is no number counts as infinite.
MULTIVERSION void magnitudes(const float *RESTRICT values, int64_t count, int32_t *RESTRICT out) {
    constexpr int32_t INFINITE = 0x7f800000;
    for (int64_t i = 0; i < count; ++i) {
        int32_t bits;
        std::memcpy(&bits, values + i, sizeof bits);
        out[i] = std::min(bits & 0x7fffffff, INFINITE);
    }
}

// The number below which `place` of them are, found bit by bit: sorting would guess wrong at every other one.
MULTIVERSION int32_t ranked(const int32_t *RESTRICT values, int32_t count, int32_t place) {
    int32_t found = 0;
    for (int bit = 30; bit >= 0; --bit) {
        const int32_t next = found | (1 << bit);
        int32_t below = 0;
        for (int32_t i = 0; i < count; ++i) below += values[i] < next ? 1 : 0;
        if (below <= place) found = next;
    }
    return found;
}

double median_magnitude(const float *values, int64_t count) {
    int32_t *whole = scratch<int32_t, 32>(static_cast<size_t>(count));
    magnitudes(values, count, whole);
    const int32_t bits = ranked(whole, static_cast<int32_t>(count), static_cast<int32_t>(count / 2));
    float median;
    std::memcpy(&median, &bits, sizeof median);
    return static_cast<double>(median);
}

// Cells that err much count little.
MULTIVERSION void weigh(const float *RESTRICT weight, const float *RESTRICT error, float usual, int64_t count,
                        float *RESTRICT out) {
    const float scale = 1 / usual;
    for (int64_t i = 0; i < count; ++i) out[i] = weight[i] / (1 + error[i] * scale * (error[i] * scale));
}

// From one slope on: sums over the cells of weight * slope * slope', last of weight * slope * error.
MULTIVERSION void products(const float *RESTRICT slopes, int count_slopes, const float *RESTRICT weight,
                           const float *RESTRICT error, int64_t count, float *RESTRICT weighted,
                           double *RESTRICT sums) {
    for (int64_t i = 0; i < count; ++i) weighted[i] = weight[i] * slopes[i];
    for (int k = 0; k < count_slopes; ++k) sums[k] = dot(weighted, slopes + k * count, count);
    sums[count_slopes] = dot(weighted, error, count);
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
    const size_t count = static_cast<size_t>(face.count);
    int32_t *first = scratch<int32_t, 31>(count);
    float *error = scratch<float, 31>(4 * count), *y_share = error + count;
    float *weight = y_share + count, *weighted = weight + count;
    Complex turn{1, 0}, shift{0, 0};
    double gain = 1, haze = 0;
    for (int step = 0; step < search.steps; ++step) {
        place_cells(face.x, face.y, face.count, size, turn, shift, first, error, y_share);
        read_errors(picture, size, first, y_share, face.known, face.count, static_cast<float>(gain),
                    static_cast<float>(haze), error);
        const double usual = 1.5 * median_magnitude(error, face.count) + 1e-3;
        weigh(face.weight, error, static_cast<float>(usual), face.count, weight);

        double a[UNKNOWNS][UNKNOWNS], b[UNKNOWNS];
        const double so_far[UNKNOWNS] = {turn.real - 1, turn.imag, shift.real, shift.imag, 0, 0};
        for (int i = 0; i < UNKNOWNS; ++i) {
            double sums[UNKNOWNS + 1];
            products(face.slopes + i * face.count, UNKNOWNS - i, weight, error, face.count, weighted, sums);
            for (int j = i; j < UNKNOWNS; ++j) a[i][j] = a[j][i] = sums[j - i];
            const double sure = search.noise * usual * usual / (search.expected[i] * search.expected[i]);
            a[i][i] += sure;
            b[i] = sums[UNKNOWNS - i] + sure * so_far[i];
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
