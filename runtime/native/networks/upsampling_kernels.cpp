// The up-sampling half of synthesis_kernels.h: transposed convolutions with their FIR, and the RGB picture.
#include "synthesis_kernels.h"

#include "products.h"
#include "synthesis_maps.h"
#include "winograd.h"

namespace doppelgan {
namespace {

// -- up-sampling

// Rows of the transposed convolution, in a ring: the FIR needs four of them. Its columns begin with `base`.
struct Ring {
    float *memory;
    int64_t height, channels, row_floats, base;

    float *row(int64_t y) const { return memory + (y + 2 * height) % height * row_floats; }
    float *at(int64_t y, int64_t column) const { return row(y) + (column - base) * channels; }
};

// Rows 2 i and 2 i + 1 of the transposed convolution for i in [first, end), beginning with the row `from`.
void spread_rows(const Convolution &c, const Part &part, const Ring &ring, int64_t first, int64_t end,
                 int64_t from) {
    const int64_t depth = c.inputs, width = c.in_size;
    for (int64_t channel = part.first_channel, done = PANEL; channel < part.end_channel; channel += done) {
        const int64_t left = part.end_channel - channel;
        const int64_t tap = depth * (left >= PANEL ? PANEL : LANES);
        const float *weights = c.weights.floats + channel * TAPS * depth;
        for (int64_t i = first; i < end; ++i) {
            const float *here = c.x.floats + pixel(width, depth, i, 0);
            const float *above = c.x.floats + pixel(width, depth, i - 1, 0);
            const float *even_even[] = {here, here - depth, above, above - depth},
                        *even_odd[] = {here, above};
            const float *odd_even[] = {here, here - depth}, *odd_odd[] = {here};
            const auto into = [&](int64_t row, int64_t column) {
                return ring.at(row, column) + channel - part.first_channel;
            };
            const auto multiply_taps = [&](const float *const *taps, int count, int first_tap, int64_t pixels,
                                           float *to) {
                done = multiply_panels(left, taps, count, depth, pixels, depth, weights + first_tap * tap,
                                       TAPS * tap, to, 2 * ring.channels);
            };
            if (2 * i >= from) {
                multiply_taps(even_even, 4, 0, width + 1, into(2 * i, 0));
                multiply_taps(even_odd, 2, 4, width, into(2 * i, 1));
            }
            multiply_taps(odd_even, 2, 6, width + 1, into(2 * i + 1, 0));
            multiply_taps(odd_odd, 1, 8, width, into(2 * i + 1, 1));
        }
    }
}

// The FIR over four rows and all that follows: columns [first, end) of one row of y.
void filter_row(const Convolution &c, const Part &part, const Ring &ring, int64_t row, int64_t first,
                int64_t end, float *line) {
    const float *rows[4];
    for (int64_t k = 0; k < 4; ++k) rows[k] = ring.at(row - 1 + k, first - 1);
    const int64_t apart = ring.channels;
    for (int64_t i = 0; i < (end - first + 3) * apart; i += LANES)
        store(line + i, c.fir_down[0] * load(rows[0] + i) + c.fir_down[1] * load(rows[1] + i) +
                            c.fir_down[2] * load(rows[2] + i) + c.fir_down[3] * load(rows[3] + i));
    const float *noise = c.noise + row * c.size;
    const auto value = [&](const Ending &ending, const float *in, int64_t column) {
        const Vector filtered = c.fir_across[0] * load(in) + c.fir_across[1] * load(in + apart) +
                                c.fir_across[2] * load(in + 2 * apart) +
                                c.fir_across[3] * load(in + 3 * apart);
        return ending(filtered, noise[column]);
    };
    int64_t out = pixel(c.size, c.outputs, row, first) + part.first_channel;
    for (int64_t column = first; column < end; ++column, line += apart, out += c.outputs)
        for (int64_t channel = 0; channel < apart; channel += LANES) {
            const Vector y = value(Ending(c, part.first_channel + channel), line + channel, column);
            put(c.y, out + channel, y * load(c.style + part.first_channel + channel));
        }
}

// -- up-sampling by Winograd, F(4, 2)

// The rows of a block's products. Pixels of the transposed convolution in even rows and columns: 5x5
// positions; in even rows and odd columns: 5 positions down, for each of 4 columns; in odd rows and even
// columns: 5 positions across, for each of the odd rows; in odd ones of both: the pixels themselves.
struct UpLayout {
    int64_t tiles, odd_rows, channels;

    int64_t count(int64_t matrix) const { return tiles * per_tile(matrix); }
    int64_t per_tile(int64_t matrix) const {
        return matrix < 25 ? 1 : matrix < 30 ? TILE : matrix < 35 ? odd_rows : odd_rows * TILE;
    }
    int64_t first_row(int64_t matrix) const {
        return tiles * (matrix < 25   ? matrix
                        : matrix < 30 ? 25 + (matrix - 25) * TILE
                        : matrix < 35 ? 45 + (matrix - 30) * odd_rows
                                      : 45 + 5 * odd_rows);
    }
    int64_t rows() const { return first_row(35) + count(35); }
    // A matrix's first value; the odd line is for the cache, as above.
    int64_t at(int64_t matrix) const { return first_row(matrix) * channels + 16 * matrix; }
    int64_t floats() const { return rows() * channels + 16 * UP_POSITIONS; }
    int64_t matrix_of(int64_t row) const {
        const int64_t own = row / tiles;
        return own < 25                  ? own
               : own < 45                ? 25 + (own - 25) / TILE
               : own < 45 + 5 * odd_rows ? 30 + (own - 45) / odd_rows
                                         : 35;
    }
    // A row within its matrix; the k-th of a tile's.
    int64_t line(int64_t matrix, int64_t tile, int64_t k) const {
        return matrix < 25   ? even(tile)
               : matrix < 30 ? even_odd(tile, k)
               : matrix < 35 ? odd_even(tile, k)
                             : odd_odd(tile, k / TILE, k % TILE);
    }
    int64_t even(int64_t tile) const { return tile; }
    int64_t even_odd(int64_t tile, int64_t column) const { return tile * TILE + column; }
    int64_t odd_even(int64_t tile, int64_t row) const { return row * tiles + tile; }
    int64_t odd_odd(int64_t tile, int64_t row, int64_t column) const {
        return (row * tiles + tile) * TILE + column;
    }
};

// What is wanted of a row of tiles: its odd rows [first_odd, first_odd + odd_rows) and, if `evens`, all even.
struct Wanted {
    int64_t first_odd, odd_rows;
    bool evens;
};

// The pixels around one tile, `x` its upper left neighbor, of which rows x columns lie in the map.
template <typename Value>
void transform_up_tile(const Value *x, int64_t row_stride, int64_t rows, int64_t columns,
                       const Wanted &wanted, const UpLayout &to, int64_t tile, float *out) {
    const auto put = [&](int64_t matrix, int64_t row, int64_t channel, Vector v) {
        store(out + to.at(matrix) + row * to.channels + channel, v);
    };
    for (int64_t channel = 0; channel < to.channels; channel += LANES) {
        Vector d[5][5], t[5];
        for (int64_t i = 0; i < 5; ++i)
            for (int64_t j = 0; j < 5; ++j)
                d[i][j] =
                    i < rows && j < columns ? load(x + i * row_stride + j * to.channels + channel) : Vector{};
        for (int64_t r = 0; r < wanted.odd_rows; ++r) {
            const Vector *line = d[wanted.first_odd + r + 1];
            for (int64_t j = 0; j < TILE; ++j) put(35, to.odd_odd(tile, r, j), channel, line[j + 1]);
            into_winograd_of_two(line, t);
            for (int64_t q = 0; q < 5; ++q) put(30 + q, to.odd_even(tile, r), channel, t[q]);
        }
        if (!wanted.evens) continue;
        Vector down[5][5];
        for (int64_t j = 0; j < 5; ++j) {
            const Vector column[5] = {d[0][j], d[1][j], d[2][j], d[3][j], d[4][j]};
            into_winograd_of_two(column, t);
            for (int64_t p = 0; p < 5; ++p) down[p][j] = t[p];
        }
        for (int64_t p = 0; p < 5; ++p) {
            for (int64_t j = 0; j < TILE; ++j) put(25 + p, to.even_odd(tile, j), channel, down[p][j + 1]);
            into_winograd_of_two(down[p], t);
            for (int64_t q = 0; q < 5; ++q) put(5 * p + q, to.even(tile), channel, t[q]);
        }
    }
}

// Products -> the ring's rows from 2 row on, columns from 2 column on.
void spread_up_tile(const float *products, const UpLayout &from, int64_t tile, const Wanted &wanted,
                    const Ring &ring, int64_t row, int64_t column) {
    const auto get = [&](int64_t matrix, int64_t line, int64_t channel) {
        return load(products + from.at(matrix) + line * from.channels + channel);
    };
    float *into[2 * TILE];
    for (int64_t i = 0; i < 2 * TILE; ++i) into[i] = ring.at(2 * row + i, 2 * column);
    const int64_t apart = 2 * ring.channels;
    for (int64_t channel = 0; channel < from.channels; channel += LANES) {
        Vector m[5], y[TILE];
        for (int64_t r = 0; r < wanted.odd_rows; ++r) {
            float *to = into[2 * (wanted.first_odd + r) + 1] + channel;
            for (int64_t q = 0; q < 5; ++q) m[q] = get(30 + q, from.odd_even(tile, r), channel);
            from_winograd_of_two(m, y);
            for (int64_t j = 0; j < TILE; ++j) {
                store(to + j * apart, y[j]);
                store(to + j * apart + ring.channels, get(35, from.odd_odd(tile, r, j), channel));
            }
        }
        if (!wanted.evens) continue;
        // Of a row of tiles whose odd rows are not all wanted, only the first even row is.
        const int64_t evens = wanted.odd_rows == TILE ? TILE : 1;
        Vector across[5][TILE];
        for (int64_t p = 0; p < 5; ++p) {
            for (int64_t q = 0; q < 5; ++q) m[q] = get(5 * p + q, from.even(tile), channel);
            from_winograd_of_two(m, across[p]);
        }
        for (int64_t j = 0; j < TILE; ++j) {
            for (int64_t p = 0; p < 5; ++p) m[p] = across[p][j];
            from_winograd_of_two(m, y);
            for (int64_t i = 0; i < evens; ++i) store(into[2 * i] + channel + j * apart, y[i]);
            for (int64_t p = 0; p < 5; ++p) m[p] = get(25 + p, from.even_odd(tile, j), channel);
            from_winograd_of_two(m, y);
            for (int64_t i = 0; i < evens; ++i)
                store(into[2 * i] + channel + j * apart + ring.channels, y[i]);
        }
    }
}

// How an up-sampling map is gone through: in strips of tiles, and in each strip some rows of tiles at once.
// The ring of a strip fits the cache. Small maps, whose weights are large, are one strip.
struct Strips {
    int64_t tiles, width, rows;  // tiles beside each other in all and in a strip; rows of tiles at once

    // The last column of the transposed convolution needs a tile of its own.
    Strips(const Convolution &c, int64_t maps) : tiles(c.in_size / TILE + 1) {
        constexpr int64_t WIDTH = 20, AT_ONCE = 36;
        const int64_t strips = (tiles + WIDTH - 1) / WIDTH;
        width = (tiles + strips - 1) / strips;
        rows = strips == 1 && maps * width < AT_ONCE ? AT_ONCE / (maps * width) : 1;
    }
    int64_t ring_height() const { return 2 * TILE * rows + 4; }
    // Before the strip's own columns, three of the strip before it.
    int64_t row_floats(int64_t channels) const { return (2 * TILE * width + 3) * channels; }
};

// Rows and columns of tiles, of every map.
struct Tiles {
    int64_t first_row, rows, first_column, columns;
};

// Some tiles of every map into its ring.
void spread_tiles(const Pictures &pictures, const Part &part, const Ring *rings, const Tiles &which,
                  const Wanted &wanted, float *scratch) {
    const Convolution &c = pictures.each[0];  // what all have in common
    const int64_t size = c.in_size, per_map = which.rows * which.columns, tiles = pictures.maps * per_map;
    const int64_t first_matrix = wanted.evens ? 0 : 30;
    const UpLayout in{tiles, wanted.odd_rows, c.inputs}, single{1, wanted.odd_rows, c.inputs},
        out{tiles, wanted.odd_rows, rings[0].channels};
    float *products = scratch;
    const Factors factors(c.weights, scratch + out.floats(), in.floats(), in.rows());
    const auto row_of = [&](int64_t tile) {
        return (which.first_row + tile % per_map / which.columns) * TILE;
    };
    const auto column_of = [&](int64_t tile) { return (which.first_column + tile % which.columns) * TILE; };
    for (int64_t tile = 0; tile < tiles; ++tile) {
        const ConstMap &x = pictures.each[tile / per_map].x;
        const int64_t row = row_of(tile), column = column_of(tile);
        const int64_t corner = pixel(size, c.inputs, row - 1, column - 1);
        const int64_t rows = least_of(5, size - row + 1), columns = least_of(5, size - column + 1);
        const int64_t row_stride = map_stride(size, c.inputs);
        const auto transform = [&](const UpLayout &to, int64_t number, float *out) {
            x.halves ? transform_up_tile(x.halves + corner, row_stride, rows, columns, wanted, to, number, out)
                     : transform_up_tile(x.floats + corner, row_stride, rows, columns, wanted, to, number, out);
        };
        if (!factors.rounded) {
            transform(in, tile, factors.floats);
            continue;
        }
        transform(single, 0, factors.tile);
        const int64_t before = single.first_row(first_matrix);
        factors.round(single.rows() - before, [&](int64_t n) {
            const int64_t m = single.matrix_of(before + n), k = before + n - single.first_row(m);
            const int64_t line = in.line(m, tile, k);
            return RowPlace{single.at(m) + k * c.inputs, in.at(m) + line * c.inputs, in.first_row(m) + line};
        });
    }
    for (int64_t m = first_matrix; m < UP_POSITIONS; ++m)
        multiply_matrix(c.weights, m, factors.rows(in.at(m), in.first_row(m)), in.count(m),
                        part.first_channel, part.end_channel, products + out.at(m) - part.first_channel,
                        out.channels);
    for (int64_t tile = 0; tile < tiles; ++tile)
        spread_up_tile(products, out, tile, wanted, rings[tile / per_map], row_of(tile), column_of(tile));
}

inline void copy(const float *from, int64_t count, float *to) {
    for (int64_t i = 0; i < count; i += LANES) store(to + i, load(from + i));
}

}  // namespace

// Its ring has a zero pixel at either end of a row.
constexpr int64_t RING = 2 * STEP + 4;

int64_t up_scratch(const Convolution &c, int64_t channels) {
    return (RING + 1) * (2 * c.in_size + 3) * channels;
}

void convolve_up(const Pictures &pictures, const Part &part, float *scratch) {
    const Convolution &c = pictures.each[0];  // what all have in common
    const int64_t channels = part.end_channel - part.first_channel;
    const Ring ring{scratch, RING, channels, (2 * c.in_size + 3) * channels, -1};
    float *line = scratch + RING * ring.row_floats;
    for (int64_t i = 0; i < RING * ring.row_floats; i += LANES) store(scratch + i, Vector{});
    for (int64_t m = 0; m < pictures.maps; ++m) {
        const int64_t from = 2 * part.first_row - 1, end = 2 * part.end_row;
        // Row of y, the next to be made; it needs the rows row - 1 ... row + 2 of the ring.
        int64_t row = 2 * part.first_row;
        if (m > 0 && row == 0)  // what the map before has left above the picture
            for (int64_t i = 0; i < ring.row_floats; i += LANES) store(ring.row(-1) + i, Vector{});
        for (int64_t i = part.first_row - 1; row < end; i += STEP) {
            const int64_t until = i + STEP < part.end_row + 1 ? i + STEP : part.end_row + 1;
            // Above the picture there is nothing; below it the border of x, whose even row still sees the
            // last row.
            spread_rows(pictures.each[m], part, ring, i < 0 ? 0 : i, until, from);
            for (; row < end && row + 2 < 2 * until; ++row)
                for (int64_t n = pictures.first_of(m); n < pictures.end_of(m); ++n)
                    filter_row(pictures.each[n], part, ring, row, 0, c.size, line);
        }
    }
    finish_stores();
}

int64_t up_winograd_scratch(const Convolution &c, int64_t maps, int64_t rows, int64_t channels) {
    const Strips strips(c, maps);
    const int64_t tiles = maps * strips.width * strips.rows;
    const UpLayout in{tiles, TILE, c.inputs}, single{1, TILE, c.inputs}, out{tiles, TILE, channels};
    return (maps * strips.ring_height() + 1) * strips.row_floats(channels) +
           maps * (2 * rows + 3) * 3 * channels + out.floats() +
           Factors::memory(c.weights, in.floats(), in.rows(), single.floats());
}

void convolve_up_winograd(const Pictures &pictures, const Part &part, float *scratch) {
    const Convolution &c = pictures.each[0];  // what all have in common
    const Strips strips(c, pictures.maps);
    const int64_t channels = part.end_channel - part.first_channel, seam = 3 * channels;
    const int64_t above = 2 * part.first_row - 1, below = 2 * part.end_row + 2;  // rows of the ring
    const int64_t row_floats = strips.row_floats(channels), map_seams = (below - above) * seam;
    Ring rings[MOST_PICTURES] = {};
    for (int64_t m = 0; m < pictures.maps; ++m)
        rings[m] = {scratch + m * strips.ring_height() * row_floats, strips.ring_height(), channels,
                    row_floats, 0};
    float *line = scratch + pictures.maps * strips.ring_height() * row_floats;
    float *seams = line + row_floats, *rest = seams + pictures.maps * map_seams;
    // What lies left of the picture is zero, and what lies above it.
    for (int64_t i = 0; i < pictures.maps * map_seams; i += LANES) store(seams + i, Vector{});
    for (int64_t first = 0; first < strips.tiles; first += strips.width) {
        const int64_t width = least_of(strips.width, strips.tiles - first), base = 2 * TILE * first - 3;
        for (Ring &ring : rings) ring.base = base;
        const int64_t begin = first == 0 ? 0 : base + 1, end = least_of(c.size, base + 1 + 2 * TILE * width);
        // Rows of the ring that are complete get their left neighbors, and keep theirs for the next strip.
        int64_t complete = above;
        const auto complete_until = [&](int64_t until) {
            for (; complete < until; ++complete)
                for (int64_t m = 0; m < pictures.maps; ++m) {
                    float *kept = seams + m * map_seams + (complete - above) * seam;
                    float *row = rings[m].row(complete);
                    copy(kept, seam, row);
                    copy(row + 2 * TILE * width * channels, seam, kept);
                }
        };
        const auto spread = [&](int64_t row, int64_t rows, const Wanted &wanted) {
            spread_tiles(pictures, part, rings, {row / TILE, rows, first, width}, wanted, rest);
        };
        int64_t row = 2 * part.first_row;
        const auto filter_until = [&](int64_t until) {
            for (; row < until; ++row)
                for (int64_t n = 0; n < pictures.count; ++n)
                    filter_row(pictures.each[n], part, rings[pictures.maps == 1 ? 0 : n], row, begin, end,
                               line);
        };
        // Of the tiles above, the FIR sees the last row; of those below, the first two.
        if (part.first_row > 0)
            spread(part.first_row - TILE, 1, {TILE - 1, 1, false});
        else
            for (int64_t m = 0; m < pictures.maps; ++m) {
                float *nothing = rings[m].row(above);
                for (int64_t i = 0; i < row_floats; i += LANES) store(nothing + i, Vector{});
            }
        for (int64_t i = part.first_row; i < part.end_row; i += TILE * strips.rows) {
            const int64_t rows = least_of(strips.rows, (part.end_row - i) / TILE);
            spread(i, rows, {0, TILE, true});
            complete_until(2 * (i + TILE * rows));
            filter_until(2 * (i + TILE * rows) - 2);
        }
        spread(part.end_row, 1, {0, 1, true});
        complete_until(below);
        filter_until(2 * part.end_row);
    }
    finish_stores();
}

void upsample_rgb(const float *picture, int64_t size, const float fir_down[4], const float fir_across[4],
                  float *out, int64_t first_row, int64_t end_row, float *scratch) {
    for (int color = 0; color < 3; ++color)
        for (int64_t row = first_row; row < end_row; ++row) {
            // Pixel 2 h takes x[h] f[1] + x[h - 1] f[3], pixel 2 h + 1 takes x[h] f[2] + x[h + 1] f[0].
            const int64_t near = row / 2, far = row % 2 ? near + 1 : near - 1;
            const float *source = picture + color * size * size;
            const float *a = source + near * size, *b = source + far * size;
            const float near_share = fir_down[row % 2 ? 2 : 1], far_share = fir_down[row % 2 ? 0 : 3];
            float *line = scratch + 1;
            line[-1] = line[size] = 0;
            if (far >= 0 && far < size)
                for (int64_t i = 0; i < size; ++i) line[i] = near_share * a[i] + far_share * b[i];
            else
                for (int64_t i = 0; i < size; ++i) line[i] = near_share * a[i];
            float *to = out + (color * 2 * size + row) * 2 * size;
            for (int64_t i = 0; i < size; ++i) {
                to[2 * i] = fir_across[1] * line[i] + fir_across[3] * line[i - 1];
                to[2 * i + 1] = fir_across[2] * line[i] + fir_across[0] * line[i + 1];
            }
        }
}

}  // namespace doppelgan
