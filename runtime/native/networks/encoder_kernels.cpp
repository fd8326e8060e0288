#include "encoder_kernels.h"

#include "products.h"
#include "winograd.h"

namespace doppelgan {
namespace {

constexpr int64_t ROWS_AT_ONCE = 6;  // of a product, between two requests for what comes next

inline int64_t least_of(int64_t a, int64_t b) { return a < b ? a : b; }

inline int64_t parts(int64_t work, int64_t most) { return (work + most - 1) / most; }

// Asks for the weights of the next product while this one is computed: they are read once, from far away.
struct Ahead {
    const char *first;
    int64_t matrix_bytes, bytes;  // from one matrix to the next, and those that this part reads

    Ahead(const PackedWeights &w, int64_t first_channel, int64_t end_channel) {
        const int64_t value =
            w.integers ? static_cast<int64_t>(sizeof(int16_t)) : static_cast<int64_t>(sizeof(float));
        const char *all = w.integers ? reinterpret_cast<const char *>(w.integers)
                                     : reinterpret_cast<const char *>(w.floats);
        first = all + first_channel * w.inputs * value;
        matrix_bytes = w.outputs * w.inputs * value;
        bytes = (end_channel - first_channel) * w.inputs * value;
    }

    void fetch(int64_t matrix, int64_t pass, int64_t passes) const {
        const char *from = first + matrix * matrix_bytes;
        for (int64_t at = bytes * pass / passes / LINE * LINE; at < bytes * (pass + 1) / passes; at += LINE)
            __builtin_prefetch(from + at, 0, 2);
    }

    static constexpr int64_t LINE = 64;  // bytes that come together
};

// The pixel (row, column) of a map with its border.
template <typename T>
inline T *pixel_of(T *map, int64_t size, int64_t channels, int64_t row, int64_t column) {
    return map + ((row + 1) * (size + 2) + column + 1) * channels;
}

// The rows of all products: in each matrix those of a tile lie side by side.
struct Shape {
    Method method;
    int64_t matrices, tiles, channels;

    Shape(const MapConvolution &c, int64_t tile_count, int64_t channel_count)
        : method(c.method),
          matrices(c.method == Method::picture    ? 1
                   : c.method == Method::direct   ? c.tap_count
                   : c.method == Method::winograd ? WINOGRAD_MATRICES
                                                  : HALVING_MATRICES),
          tiles(tile_count),
          channels(channel_count) {}

    int64_t per_tile(int64_t m) const {
        if (method != Method::halving || m < 25) return 1;
        return m < 35 ? CELL : CELL * CELL;
    }
    // Of one tile: the rows before this matrix.
    int64_t before(int64_t m) const {
        if (method != Method::halving || m <= 25) return m;
        return 25 + least_of(m - 25, 10) * CELL + (m > 35 ? CELL * CELL : 0);
    }
    int64_t count(int64_t m) const { return tiles * per_tile(m); }
    int64_t first_row(int64_t m) const { return tiles * before(m); }
    int64_t rows() const { return tiles * before(matrices); }
    // Of one tile: the matrix of its row `row`.
    int64_t matrix_of(int64_t row) const {
        if (method != Method::halving || row < 25) return row;
        return 25 + least_of((row - 25) / CELL, 10);
    }
    // From one matrix to the next; the odd line keeps them out of each other's cache sets.
    int64_t at(int64_t m) const { return first_row(m) * channels + 16 * m; }
    int64_t floats() const { return rows() * channels + 16 * matrices; }
    int64_t row_at(int64_t m, int64_t tile, int64_t k) const {
        return at(m) + (tile * per_tile(m) + k) * channels;
    }
};

// Where tiles lie in the result.
struct Place {
    int64_t row, column;
};

inline Place place_of(const MapConvolution &c, int64_t tile) {
    const int64_t side = c.method == Method::winograd || c.method == Method::halving ? CELL : 1;
    const int64_t per_row = c.size / side;
    return {tile / per_row * side, tile % per_row * side};
}

// -- from pixels to the left sides

struct Plain {
    explicit Plain(const float *) {}
    Vector operator()(const float *p, int64_t) const { return load(p); }
};

struct Scaled {
    const float *scale;
    explicit Scaled(const float *s) : scale(s) {}
    Vector operator()(const float *p, int64_t channel) const { return load(p) * load(scale + channel); }
};

template <typename Take>
void transform_winograd(const MapConvolution &c, Place place, const Shape &to, int64_t tile, float *out) {
    const Take take(c.scale);
    const float *corner = pixel_of(c.x, c.in_size, c.inputs, place.row - 1, place.column - 1);
    const int64_t row_stride = (c.in_size + 2) * c.inputs, stride = to.at(1);
    float *first = out + to.row_at(0, tile, 0);
    for (int64_t channel = 0; channel < c.inputs; channel += LANES) {
        Vector columns[6][6];
        for (int j = 0; j < 6; ++j) {
            Vector d[6], t[6];
            for (int i = 0; i < 6; ++i)
                d[i] = take(corner + i * row_stride + j * c.inputs + channel, channel);
            into_winograd(d, t);
            for (int i = 0; i < 6; ++i) columns[i][j] = t[i];
        }
        for (int i = 0; i < 6; ++i) {
            Vector t[6];
            into_winograd(columns[i], t);
            for (int j = 0; j < 6; ++j) store(first + (6 * i + j) * stride + channel, t[j]);
        }
    }
}

template <typename Take>
void transform_halving(const MapConvolution &c, Place place, const Shape &to, int64_t tile, float *out) {
    constexpr int SPAN = 2 * CELL + 1;  // rows -1 ... 7 of x, the odd ones first
    const Take take(c.scale);
    const float *corner = pixel_of(c.x, c.in_size, c.inputs, 2 * place.row - 1, 2 * place.column - 1);
    const int64_t row_stride = (c.in_size + 2) * c.inputs;
    for (int64_t channel = 0; channel < c.inputs; channel += LANES) {
        const auto put = [&](int64_t m, int64_t k, Vector v) {
            store(out + to.row_at(m, tile, k) + channel, v);
        };
        Vector odd[5][SPAN], even[CELL][SPAN];
        for (int j = 0; j < SPAN; ++j) {
            const float *column = corner + j * c.inputs + channel;
            Vector d[5], t[5];
            for (int i = 0; i < 5; ++i) d[i] = take(column + 2 * i * row_stride, channel);
            for (int i = 0; i < CELL; ++i) even[i][j] = take(column + (2 * i + 1) * row_stride, channel);
            into_winograd_of_two(d, t);
            for (int i = 0; i < 5; ++i) odd[i][j] = t[i];
        }
        const auto across = [](const Vector *line, Vector t[5]) {
            const Vector d[5] = {line[0], line[2], line[4], line[6], line[8]};
            into_winograd_of_two(d, t);
        };
        Vector t[5];
        for (int p = 0; p < 5; ++p) {
            across(odd[p], t);
            for (int q = 0; q < 5; ++q) put(5 * p + q, 0, t[q]);
            for (int j = 0; j < CELL; ++j) put(25 + p, j, odd[p][2 * j + 1]);
        }
        for (int i = 0; i < CELL; ++i) {
            across(even[i], t);
            for (int q = 0; q < 5; ++q) put(30 + q, i, t[q]);
            for (int j = 0; j < CELL; ++j) put(35, CELL * i + j, even[i][2 * j + 1]);
        }
    }
}

template <typename Take>
void gather_taps(const MapConvolution &c, Place place, const Shape &to, int64_t tile, float *out) {
    const Take take(c.scale);
    for (int64_t t = 0; t < c.tap_count; ++t) {
        const int64_t row = place.row * c.stride + c.taps[t] / c.side - c.side / 2,
                      column = place.column * c.stride + c.taps[t] % c.side - c.side / 2;
        const float *from = pixel_of(c.x, c.in_size, c.inputs, row, column);
        float *into = out + to.row_at(t, tile, 0);
        for (int64_t channel = 0; channel < c.inputs; channel += LANES)
            store(into + channel, take(from + channel, channel));
    }
}

void gather_picture(const MapConvolution &c, Place place, const Shape &to, int64_t tile, float *out) {
    float *into = out + to.row_at(0, tile, 0), *const end = into + c.inputs;
    const int64_t size = c.in_size, first_row = place.row * c.stride - c.side / 2,
                  first_column = place.column * c.stride - c.side / 2;
    for (int64_t plane = 0; plane < c.planes; ++plane)
        for (int64_t i = 0; i < c.side; ++i)
            for (int64_t j = 0; j < c.side; ++j) {
                const int64_t row = first_row + i, column = first_column + j;
                const bool inside = row >= 0 && row < size && column >= 0 && column < size;
                *into++ = inside ? c.x[(plane * size + row) * size + column] : 0.0f;
            }
    while (into < end) *into++ = 0.0f;
}

template <typename Take>
void transform_tile(const MapConvolution &c, Place place, const Shape &to, int64_t tile, float *out) {
    switch (c.method) {
        case Method::picture: gather_picture(c, place, to, tile, out); break;
        case Method::direct: gather_taps<Take>(c, place, to, tile, out); break;
        case Method::winograd: transform_winograd<Take>(c, place, to, tile, out); break;
        case Method::halving: transform_halving<Take>(c, place, to, tile, out); break;
    }
}

// -- from products to pixels

// What follows the convolution of one tile's pixels, channel by channel.
class Ending {
  public:
    Ending(const MapConvolution &c, Place place, int64_t side)
        : outputs_(c.outputs), slope_(c.slope), side_(side) {
        const auto where = [&](int64_t line) { return line == 0 ? 0 : line + 1 == c.size ? 2 : 1; };
        for (int64_t i = 0; i < side; ++i)
            for (int64_t j = 0; j < side; ++j) {
                const int64_t row = place.row + i, column = place.column + j;
                const int64_t k = i * side + j;
                bias_[k] = c.bias + (3 * where(row) + where(column)) * outputs_;
                y_[k] = pixel_of(c.y, c.size, outputs_, row, column);
                addend_[k] = c.addend ? pixel_of(c.addend, c.size, outputs_, row, column) : nullptr;
            }
    }

    Vector operator()(int64_t i, int64_t j, int64_t channel, Vector value) const {
        const int64_t k = i * side_ + j;
        Vector y = value + load(bias_[k] + channel);
        if (addend_[0]) y += load(addend_[k] + channel);
        y = y > Vector{} ? y : y * load(slope_ + channel);
        store(y_[k] + channel, y);
        return y;
    }

  private:
    const int64_t outputs_;
    const float *slope_;
    const int64_t side_;
    const float *bias_[CELL * CELL], *addend_[CELL * CELL];
    float *y_[CELL * CELL];
};

Vector finish_winograd(const float *products, int64_t stride, const Ending &ending, int64_t channel) {
    Vector columns[CELL][6], total = {};
    for (int j = 0; j < 6; ++j) {
        Vector m[6], y[CELL];
        for (int i = 0; i < 6; ++i) m[i] = load(products + (6 * i + j) * stride + channel);
        from_winograd(m, y);
        for (int i = 0; i < CELL; ++i) columns[i][j] = y[i];
    }
    for (int i = 0; i < CELL; ++i) {
        Vector y[CELL];
        from_winograd(columns[i], y);
        for (int j = 0; j < CELL; ++j) total += ending(i, j, channel, y[j]);
    }
    return total;
}

Vector finish_halving(const float *products, const Shape &from, int64_t tile, const Ending &ending,
                      int64_t channel) {
    const auto get = [&](int64_t m, int64_t k) { return load(products + from.row_at(m, tile, k) + channel); };
    Vector odd[5][CELL], even[CELL][CELL], m[5], y[CELL], total = {};
    for (int p = 0; p < 5; ++p) {
        for (int q = 0; q < 5; ++q) m[q] = get(5 * p + q, 0);
        from_winograd_of_two(m, odd[p]);
        for (int j = 0; j < CELL; ++j) odd[p][j] += get(25 + p, j);
    }
    for (int i = 0; i < CELL; ++i) {
        for (int q = 0; q < 5; ++q) m[q] = get(30 + q, i);
        from_winograd_of_two(m, even[i]);
    }
    for (int j = 0; j < CELL; ++j) {
        for (int p = 0; p < 5; ++p) m[p] = odd[p][j];
        from_winograd_of_two(m, y);
        for (int i = 0; i < CELL; ++i)
            total += ending(i, j, channel, y[i] + even[i][j] + get(35, CELL * i + j));
    }
    return total;
}

void finish_tile(const MapConvolution &c, const float *products, const Shape &from, int64_t tile, Place place,
                 int64_t first_channel, int64_t end_channel, float *sums) {
    const bool cells = c.method == Method::winograd || c.method == Method::halving;
    const Ending ending(c, place, cells ? CELL : 1);
    const float *first = products + from.row_at(0, tile, 0);
    for (int64_t channel = first_channel; channel < end_channel; channel += LANES) {
        Vector total;
        if (c.method == Method::winograd) {
            total = finish_winograd(first, from.at(1), ending, channel);
        } else if (c.method == Method::halving) {
            total = finish_halving(products, from, tile, ending, channel);
        } else {
            Vector value = load(first + channel);
            for (int64_t m = 1; m < from.matrices; ++m) value += load(first + from.at(m) + channel);
            total = ending(0, 0, channel, value);
        }
        if (sums) store(sums + channel, load(sums + channel) + total);
    }
}

}  // namespace

int64_t tile_count(const MapConvolution &c) {
    const int64_t side = c.method == Method::winograd || c.method == Method::halving ? CELL : 1;
    return c.size / side * (c.size / side);
}

int64_t factor_floats(const MapConvolution &c, int64_t tiles) {
    const Shape all(c, tiles, c.inputs);
    return Factors::memory(c.weights, all.floats(), all.rows(), 0);
}

int64_t transform_scratch(const MapConvolution &c) { return Shape(c, 1, c.inputs).floats(); }

void transform_tiles(const MapConvolution &c, int64_t first, int64_t end, int64_t origin, int64_t tiles,
                     float *memory, float *scratch) {
    const Shape all(c, tiles, c.inputs), single(c, 1, c.inputs);
    Factors factors(c.weights, memory, all.floats(), all.rows());
    factors.tile = scratch;  // the memory is everybody's
    const auto transform = c.scale ? transform_tile<Scaled> : transform_tile<Plain>;
    for (int64_t tile = first; tile < end; ++tile) {
        if (!factors.rounded) {
            transform(c, place_of(c, tile), all, tile - origin, factors.floats);
            continue;
        }
        transform(c, place_of(c, tile), single, 0, scratch);
        factors.round(single.rows(), [&](int64_t row) {
            const int64_t m = single.matrix_of(row), k = row - single.first_row(m);
            return RowPlace{single.row_at(m, 0, k), all.row_at(m, tile - origin, k),
                            all.first_row(m) + (tile - origin) * all.per_tile(m) + k};
        });
    }
}

int64_t product_scratch(const MapConvolution &c, int64_t tiles, int64_t channels) {
    return Shape(c, tiles, channels).floats();
}

void multiply_tiles(const MapConvolution &c, int64_t origin, int64_t tiles, float *memory,
                    int64_t first_channel, int64_t end_channel, float *sums, float *scratch) {
    const Shape in(c, tiles, c.inputs), out(c, tiles, end_channel - first_channel);
    const Factors factors(c.weights, memory, in.floats(), in.rows());
    float *products = scratch - first_channel;
    const Ahead ahead(c.weights, first_channel, end_channel);
    for (int64_t m = 0; m < in.matrices; ++m) {
        const int64_t passes = parts(in.count(m), ROWS_AT_ONCE) * parts(end_channel - first_channel, PANEL);
        int64_t pass = 0;
        for (int64_t row = 0; row < in.count(m); row += ROWS_AT_ONCE)
            for (int64_t channel = first_channel; channel < end_channel; channel += PANEL, ++pass) {
                if (m + 1 < in.matrices) ahead.fetch(m + 1, pass, passes);
                multiply_matrix(c.weights, m, factors.rows(in.at(m) + row * c.inputs, in.first_row(m) + row),
                                least_of(ROWS_AT_ONCE, in.count(m) - row), channel,
                                least_of(channel + PANEL, end_channel),
                                products + out.at(m) + row * out.channels, out.channels);
            }
    }
    for (int64_t tile = 0; tile < tiles; ++tile)
        finish_tile(c, products, out, tile, place_of(c, origin + tile), first_channel, end_channel, sums);
}

void gate_rows(const Gated &g, int64_t first_row, int64_t end_row) {
    for (int64_t row = first_row; row < end_row; ++row) {
        const float *x = pixel_of(g.x, g.size, g.channels, row, 0);
        const float *other = pixel_of(g.shortcut, g.shortcut_size, g.channels, row * g.stride, 0);
        float *out = pixel_of(g.out, g.size, g.channels, row, 0);
        for (int64_t column = 0; column < g.size; ++column)
            for (int64_t channel = 0; channel < g.channels; channel += LANES) {
                const int64_t at = column * g.channels + channel;
                store(out + at, load(x + at) * load(g.gate + channel) +
                                    load(other + column * g.stride * g.channels + channel));
            }
    }
}

void double_rows(const float *map, int64_t size, int64_t channels, float *out, int64_t first_row,
                 int64_t end_row) {
    // The pixel i of 2 size lies at i (size - 1) / (2 size - 1).
    const int64_t last = 2 * size - 1;
    const auto before = [&](int64_t i) { return i * (size - 1) / last; };
    const auto share = [&](int64_t i) {
        return static_cast<float>(i * (size - 1) % last) / static_cast<float>(last);
    };
    for (int64_t row = first_row; row < end_row; ++row) {
        const int64_t top = before(row), bottom = least_of(top + 1, size - 1);
        const float low = share(row);
        float *to = pixel_of(out, 2 * size, channels, row, 0);
        for (int64_t column = 0; column < 2 * size; ++column, to += channels) {
            const int64_t left = before(column), right = least_of(left + 1, size - 1);
            const float far = share(column);
            const float *a = pixel_of(map, size, channels, top, left),
                        *b = pixel_of(map, size, channels, top, right),
                        *c = pixel_of(map, size, channels, bottom, left),
                        *d = pixel_of(map, size, channels, bottom, right);
            for (int64_t k = 0; k < channels; k += LANES) {
                const Vector above = load(a + k) + far * (load(b + k) - load(a + k));
                const Vector below = load(c + k) + far * (load(d + k) - load(c + k));
                store(to + k, above + low * (below - above));
            }
        }
    }
}

void sum_rows(const float *map, int64_t size, int64_t channels, int64_t first_row, int64_t end_row,
              float *sums) {
    for (int64_t row = first_row; row < end_row; ++row) {
        const float *from = pixel_of(map, size, channels, row, 0);
        for (int64_t column = 0; column < size; ++column, from += channels)
            for (int64_t k = 0; k < channels; k += LANES) store(sums + k, load(sums + k) + load(from + k));
    }
}

void multiply_vector(const float *weights, int64_t rows, int64_t depth, const float *x, float *out) {
    for (int64_t row = 0; row < rows; ++row, weights += depth) {
        Vector total = {};
        for (int64_t k = 0; k < depth; k += LANES) total += load(weights + k) * load(x + k);
        out[row] = sum(total);
    }
}

}  // namespace doppelgan
