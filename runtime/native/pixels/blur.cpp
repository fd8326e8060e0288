// Gaussian blurs: `blurred` in reference_cells.py is their definition.

#include "blur.h"

#include "compiler.h"
#include "eight.h"
#include "scratch.h"

#include <algorithm>
#include <cmath>
#include <list>

namespace doppelgan {
namespace {

constexpr double CELLS = 64;               // along the side of the map in whose cells a width is given
constexpr size_t KEPT = 16;                // blurs of a thread
constexpr int64_t ROWS = 4, COLUMNS = 16;  // of a product, at a time: sums that registers hold

int64_t whole(int64_t count, int64_t of) { return (count + of - 1) / of * of; }

// out = a * b, [rows,count] * [count,columns]; rows are whole ROWS, columns whole COLUMNS.
MULTIVERSION void multiply(const float *RESTRICT a, const float *RESTRICT b, int64_t rows, int64_t count,
                           int64_t columns, float *RESTRICT out) {
    for (int64_t row = 0; row < rows; row += ROWS)
        for (int64_t column = 0; column < columns; column += COLUMNS) {
            Eight first[2] = {}, second[2] = {}, third[2] = {}, fourth[2] = {}, left, right;
            const float *share = a + row * count, *from = b + column;
            for (int64_t k = 0; k < count; ++k, ++share, from += columns) {
                load_eight(left, from), load_eight(right, from + 8);
                first[0] += left * share[0], first[1] += right * share[0];
                second[0] += left * share[count], second[1] += right * share[count];
                third[0] += left * share[2 * count], third[1] += right * share[2 * count];
                fourth[0] += left * share[3 * count], fourth[1] += right * share[3 * count];
            }
            float *to = out + row * columns + column;
            store_eight(to, first[0]), store_eight(to + 8, first[1]), to += columns;
            store_eight(to, second[0]), store_eight(to + 8, second[1]), to += columns;
            store_eight(to, third[0]), store_eight(to + 8, third[1]), to += columns;
            store_eight(to, fourth[0]), store_eight(to + 8, fourth[1]);
        }
}

// Sum of `count` rows, `step` apart, each times its share.
ALWAYS_INLINE void mix(const float *RESTRICT rows, int64_t step, const float *RESTRICT shares, int64_t count,
                       int64_t length, float *RESTRICT out) {
    int64_t i = 0;
    for (; i + 32 <= length; i += 32) {
        Eight first{}, second{}, third{}, fourth{}, value;
        const float *from = rows + i;
        for (int64_t k = 0; k < count; ++k, from += step) {
            load_eight(value, from), first += value * shares[k];
            load_eight(value, from + 8), second += value * shares[k];
            load_eight(value, from + 16), third += value * shares[k];
            load_eight(value, from + 24), fourth += value * shares[k];
        }
        store_eight(out + i, first), store_eight(out + i + 8, second);
        store_eight(out + i + 16, third), store_eight(out + i + 24, fourth);
    }
    for (; i < length; ++i) {
        out[i] = 0;
        for (int64_t k = 0; k < count; ++k) out[i] += shares[k] * rows[k * step + i];
    }
}

// taps: [2 * reach + 1], of a cell far from borders; whole: [size], by what that is to be multiplied in each.
// line: [size + 2 * reach], mixed: [size,size].
MULTIVERSION void blur_narrowly(const float *map, int64_t size, int64_t reach, const float *RESTRICT taps,
                                const float *RESTRICT whole, float *RESTRICT mixed, float *RESTRICT line,
                                float *out) {
    for (int64_t row = 0; row < size; ++row) {
        const int64_t begin = std::max<int64_t>(row - reach, 0), end = std::min(row + reach + 1, size);
        mix(map + begin * size, size, taps + (begin - row + reach), end - begin, size, mixed + row * size);
    }
    std::fill_n(line, size + 2 * reach, 0.0f);
    for (int64_t row = 0; row < size; ++row) {
        std::copy_n(mixed + row * size, size, line + reach);
        float *RESTRICT target = out + row * size;
        mix(line, 1, taps, 2 * reach + 1, size, target);
        for (int64_t i = 0; i < size; ++i) target[i] *= whole[i] * whole[row];
    }
}

// Rows folded about the middle, to rows `columns` apart: sums and differences of those that mirror each other.
MULTIVERSION void fold_rows(const float *RESTRICT map, int64_t size, int64_t columns, float *RESTRICT sums,
                            float *RESTRICT differences) {
    for (int64_t row = 0; row < (size + 1) / 2; ++row) {
        const float *RESTRICT first = map + row * size, *RESTRICT last = map + (size - 1 - row) * size;
        for (int64_t i = 0; i < size; ++i) {
            sums[row * columns + i] = first[i] + last[i];
            differences[row * columns + i] = first[i] - last[i];
        }
    }
}

// The rows that `fold_rows` made two of, and these folded across, to rows `half` apart.
MULTIVERSION void unfold_rows(const float *RESTRICT even, const float *RESTRICT odd, int64_t size,
                              int64_t columns, int64_t half, float *RESTRICT line, float *RESTRICT sums,
                              float *RESTRICT differences) {
    for (int64_t row = 0; row < size; ++row) {
        const int64_t from = std::min(row, size - 1 - row) * columns;
        const float sign = row <= size - 1 - row ? 1.0f : -1.0f;
        for (int64_t i = 0; i < size; ++i) line[i] = even[from + i] + sign * odd[from + i];
        for (int64_t i = 0; i < (size + 1) / 2; ++i) {
            sums[row * half + i] = line[i] + line[size - 1 - i];
            differences[row * half + i] = line[i] - line[size - 1 - i];
        }
    }
}

MULTIVERSION void unfold_columns(const float *RESTRICT even, const float *RESTRICT odd, int64_t size,
                                 int64_t columns, float *RESTRICT out) {
    for (int64_t row = 0; row < size; ++row, even += columns, odd += columns, out += size) {
        for (int64_t i = 0; i < (size + 1) / 2; ++i) out[i] = even[i] + odd[i];
        for (int64_t i = 0; i < size / 2; ++i) out[size - 1 - i] = even[i] - odd[i];
    }
}

}  // namespace

Blur::Blur(int64_t size, double sigma) : size_(size), sigma_(sigma) {
    const double reach = std::ceil(4 * sigma * static_cast<double>(size) / CELLS);
    reach_ = reach < static_cast<double>(size) ? static_cast<int64_t>(reach) : size;
    taps_ = 2 * reach_ + 1;
    half_ = whole((size + 1) / 2, COLUMNS);
    wide_ = taps_ > COLUMNS && 2 * taps_ > size;
    if (wide_)
        build_wide();
    else
        build_narrow();
}

// Not yet divided by the sum of them all.
double Blur::share_of(int64_t cell, int64_t other) const {
    const int64_t apart = other - cell;
    if (std::abs(apart) > reach_) return 0;
    const double far = static_cast<double>(apart) / (sigma_ * static_cast<double>(size_) / CELLS);
    return std::exp(-0.5 * far * far);
}

void Blur::build_narrow() {
    double total = 0;
    for (int64_t tap = 0; tap < taps_; ++tap) total += share_of(reach_, tap);
    for (int64_t tap = 0; tap < taps_; ++tap)
        by_cell_[0].push_back(static_cast<float>(share_of(reach_, tap) / total));
    for (int64_t cell = 0; cell < size_; ++cell) {
        double inside = 0;
        for (int64_t other = 0; other < size_; ++other) inside += share_of(cell, other);
        by_cell_[1].push_back(static_cast<float>(total / inside));
    }
}

void Blur::build_wide() {
    for (int part = 0; part < 2; ++part) {
        by_cell_[part].assign(static_cast<size_t>(half_ * half_), 0.0f);
        by_other_[part].assign(static_cast<size_t>(half_ * half_), 0.0f);
    }
    for (int64_t cell = 0; cell < (size_ + 1) / 2; ++cell) {
        double total = 0;
        for (int64_t other = 0; other < size_; ++other) total += share_of(cell, other);
        for (int64_t other = 0; other < (size_ + 1) / 2; ++other) {
            const int64_t mirrored = size_ - 1 - other;
            const double near = share_of(cell, other) / total, far = share_of(cell, mirrored) / total;
            // Half, for both are in a sum and in a difference; the middle is twice in the sum.
            const double sum = (near + far) * (other == mirrored ? 0.25 : 0.5), difference = (near - far) * 0.5;
            const size_t by_cell = static_cast<size_t>(cell * half_ + other);
            const size_t by_other = static_cast<size_t>(other * half_ + cell);
            by_cell_[0][by_cell] = by_other_[0][by_other] = static_cast<float>(sum);
            by_cell_[1][by_cell] = by_other_[1][by_other] = static_cast<float>(difference);
        }
    }
}

void Blur::operator()(const float *map, float *out) const {
    const int64_t size = size_, half = half_;
    if (!wide_) {
        float *mixed = scratch<float, 40>(static_cast<size_t>(size * size));
        float *line = scratch<float, 41>(static_cast<size_t>(size + 2 * reach_));
        blur_narrowly(map, size, reach_, by_cell_[0].data(), by_cell_[1].data(), mixed, line, out);
        return;
    }
    const int64_t columns = whole(size, COLUMNS), rows = whole(size, ROWS);
    const size_t down = static_cast<size_t>(half * columns), across = static_cast<size_t>(rows * half);
    float *memory = scratch<float, 42>(4 * down + 4 * across + static_cast<size_t>(size));
    float *sums = memory, *differences = sums + down, *even = differences + down, *odd = even + down;
    float *sums_across = odd + down, *differences_across = sums_across + across;
    float *even_across = differences_across + across, *odd_across = even_across + across;
    if (size % (2 * COLUMNS) != 0) std::fill_n(memory, 4 * down + 4 * across, 0.0f);  // what only fills up
    fold_rows(map, size, columns, sums, differences);
    multiply(by_cell_[0].data(), sums, half, half, columns, even);
    multiply(by_cell_[1].data(), differences, half, half, columns, odd);
    unfold_rows(even, odd, size, columns, half, odd_across + across, sums_across, differences_across);
    multiply(sums_across, by_other_[0].data(), rows, half, half, even_across);
    multiply(differences_across, by_other_[1].data(), rows, half, half, odd_across);
    unfold_columns(even_across, odd_across, size, half, out);
}

const Blur &blur_of(int64_t size, double sigma) {
    thread_local std::list<Blur> kept;
    for (const Blur &blur : kept)
        if (blur.is(size, sigma)) return blur;
    if (kept.size() == KEPT) kept.pop_front();
    return kept.emplace_back(size, sigma);
}

}  // namespace doppelgan
