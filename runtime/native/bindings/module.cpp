// Bindings only: the array contracts are the C++ types, the work is elsewhere. Nothing is
// converted or copied.

#include <nanobind/stl/optional.h>
#include <nanobind/stl/tuple.h>

#include <algorithm>
#include <optional>
#include <string>
#include <tuple>

#include "arrays.h"
#include "pixels/pixel_kernels.h"

void bind_maps(nb::module_ &m);       // maps_module.cpp
void bind_synthesis(nb::module_ &m);  // synthesis_module.cpp
void bind_encoder(nb::module_ &m);    // encoder_module.cpp

using Image = nb::ndarray<const uint8_t, nb::shape<-1, -1, 3>, nb::c_contig, nb::device::cpu>;
using WritableImage = nb::ndarray<uint8_t, nb::shape<-1, -1, 3>, nb::c_contig, nb::device::cpu>;
using Matrix = nb::ndarray<const double, nb::shape<2, 3>, nb::c_contig, nb::device::cpu>;
using Lines = nb::ndarray<const float, nb::shape<-1, 3>, nb::c_contig, nb::device::cpu>;
using Row = nb::ndarray<const float, nb::shape<-1>, nb::c_contig, nb::device::cpu>;
using Tile = nb::ndarray<const int8_t, nb::shape<-1, -1>, nb::c_contig, nb::device::cpu>;
using Strengths = nb::ndarray<const uint8_t, nb::shape<256>, nb::c_contig, nb::device::cpu>;
using Places = nb::ndarray<const float, nb::shape<2, -1>, nb::c_contig, nb::device::cpu>;
using CellNumbers = nb::ndarray<const int32_t, nb::shape<-1>, nb::c_contig, nb::device::cpu>;
using WritableRow = nb::ndarray<float, nb::shape<-1>, nb::c_contig, nb::device::cpu>;
using WritableSlopes = nb::ndarray<float, nb::shape<6, -1>, nb::c_contig, nb::device::cpu>;
using Slopes = nb::ndarray<const float, nb::shape<6, -1>, nb::c_contig, nb::device::cpu>;
using Points = nb::ndarray<const double, nb::shape<-1, 2>, nb::c_contig, nb::device::cpu>;
using Color = nb::ndarray<const float, nb::shape<3>, nb::c_contig, nb::device::cpu>;

static doppelgan::Affine affine(const Matrix &m, int64_t size) {
    const double *v = m.data();
    const doppelgan::Affine matrix{v[0], v[1], v[2], v[3], v[4], v[5]};
    if (const char *problem = doppelgan::matrix_problem(matrix, size)) throw nb::value_error(problem);
    return matrix;
}

static void check_frame(size_t height, size_t width, const char *name) {
    if (height == 0 || width == 0) throw nb::value_error((std::string(name) + " must not be empty").c_str());
}

NB_MODULE(_native, m) {
    m.doc() = "Pixel kernels in C++; doppelgan.runtime.native explains them.";

    m.def(
        "warp_crop",
        [](const Image &image, const Matrix &matrix, const WritablePlanes &out, int threads, int border) {
            const int64_t size = side(out.shape(1), out.shape(2), "out");
            check_frame(image.shape(0), image.shape(1), "image");
            const doppelgan::Affine map = affine(matrix, size);
            nb::gil_scoped_release release;
            doppelgan::warp_crop(image.data(), static_cast<int64_t>(image.shape(0)),
                                 static_cast<int64_t>(image.shape(1)), map, out.data(), size,
                                 static_cast<doppelgan::Border>(border), threads);
        },
        nb::arg("image").noconvert(), nb::arg("matrix").noconvert(), nb::arg("out").noconvert(),
        nb::arg("threads") = 1, nb::arg("border") = 0);

    m.def(
        "paste",
        [](const WritableImage &frame, const Planes &image, const std::optional<Mask> &mask,
           const Matrix &matrix, const Color &gain, const Color &offset, int threads) {
            const int64_t size = side(image.shape(1), image.shape(2), "image");
            if (mask && (mask->shape(0) != image.shape(1) || mask->shape(1) != image.shape(2)))
                throw nb::value_error("mask must have the image's size");
            check_frame(frame.shape(0), frame.shape(1), "frame");
            const doppelgan::Affine map = affine(matrix, size);
            nb::gil_scoped_release release;
            doppelgan::paste(frame.data(), static_cast<int64_t>(frame.shape(0)),
                             static_cast<int64_t>(frame.shape(1)), image.data(),
                             mask ? mask->data() : nullptr, size, map, gain.data(), offset.data(), threads);
        },
        nb::arg("frame").noconvert(), nb::arg("image").noconvert(), nb::arg("mask").noconvert().none(),
        nb::arg("matrix").noconvert(), nb::arg("gain").noconvert(), nb::arg("offset").noconvert(),
        nb::arg("threads") = 1);

    m.def(
        "stretch",
        [](const WritableImage &frame, const Image &small, int threads) {
            check_frame(frame.shape(0), frame.shape(1), "frame");
            check_frame(small.shape(0), small.shape(1), "small");
            nb::gil_scoped_release release;
            doppelgan::stretch(frame.data(), static_cast<int64_t>(frame.shape(0)),
                               static_cast<int64_t>(frame.shape(1)), small.data(),
                               static_cast<int64_t>(small.shape(0)), static_cast<int64_t>(small.shape(1)),
                               threads);
        },
        nb::arg("frame").noconvert(), nb::arg("small").noconvert(), nb::arg("threads") = 1);

    m.def(
        "soft_region",
        [](const WritableMask &out, const Lines &lines, const Row &fade, float width, int threads) {
            const int64_t size = side(out.shape(0), out.shape(1), "out");
            if (lines.shape(0) == 0) throw nb::value_error("lines must not be empty");
            if (fade.shape(0) != out.shape(0)) throw nb::value_error("fade must be as long as out");
            if (!(width > 0)) throw nb::value_error("width must be above 0");
            nb::gil_scoped_release release;
            doppelgan::soft_region(out.data(), size, lines.data(), static_cast<int64_t>(lines.shape(0)),
                                   fade.data(), width, threads);
        },
        nb::arg("out").noconvert(), nb::arg("lines").noconvert(), nb::arg("fade").noconvert(),
        nb::arg("width"), nb::arg("threads") = 1);

    m.def(
        "add_tile",
        [](const WritableImage &frame, const Tile &tile, const Strengths &strengths, int threads) {
            const int64_t size = side(tile.shape(0), tile.shape(1), "tile");
            if (std::any_of(strengths.data(), strengths.data() + 256, [](uint8_t s) { return s > 240; }))
                throw nb::value_error("strengths must be 240 or less");
            if (frame.size() == 0) throw nb::value_error("frame must not be empty");
            nb::gil_scoped_release release;
            doppelgan::add_tile(frame.data(), static_cast<int64_t>(frame.shape(0)),
                                static_cast<int64_t>(frame.shape(1)), tile.data(), size, strengths.data(),
                                threads);
        },
        nb::arg("frame").noconvert(), nb::arg("tile").noconvert(), nb::arg("strengths").noconvert(),
        nb::arg("threads") = 1);

    m.def(
        "difference",
        [](const WritablePlanes &change, const WritableMask &amplitude, const Planes &plain,
           const Planes &moved, const Planes &edited, const std::optional<Flow> &flow,
           const std::optional<Mask> &inside, const std::optional<Mask> &rest, int threads,
           const std::optional<WritableMaps> &means) {
            const int64_t size = side(change.shape(1), change.shape(2), "change");
            const int64_t cells = side(amplitude.shape(0), amplitude.shape(1), "amplitude");
            if (size % cells != 0) throw nb::value_error("cells must divide the picture evenly");
            for (const Planes *picture : {&plain, &moved, &edited})
                if (picture->shape(1) != change.shape(1) || picture->shape(2) != change.shape(2))
                    throw nb::value_error("pictures must have the size of change");
            if (flow.has_value() != inside.has_value() || flow.has_value() != rest.has_value())
                throw nb::value_error("expected flow, inside and rest together, or none of them");
            if (flow && (flow->shape(1) != amplitude.shape(0) || flow->shape(2) != amplitude.shape(0) ||
                         inside->shape(0) != amplitude.shape(0) || inside->shape(1) != amplitude.shape(0) ||
                         rest->shape(0) != amplitude.shape(0) || rest->shape(1) != amplitude.shape(0)))
                throw nb::value_error("flow, inside and rest must have the cells of amplitude");
            if (means && (means->shape(0) != 6 || side(means->shape(1), means->shape(2), "means") != cells))
                throw nb::value_error("means must be six maps with the cells of amplitude");
            nb::gil_scoped_release release;
            doppelgan::difference(change.data(), amplitude.data(), plain.data(), moved.data(), edited.data(),
                                  flow ? flow->data() : nullptr, inside ? inside->data() : nullptr,
                                  rest ? rest->data() : nullptr, means ? means->data() : nullptr, size, cells,
                                  threads);
        },
        nb::arg("change").noconvert(), nb::arg("amplitude").noconvert(), nb::arg("plain").noconvert(),
        nb::arg("moved").noconvert(), nb::arg("edited").noconvert(), nb::arg("flow").noconvert().none(),
        nb::arg("inside").noconvert().none(), nb::arg("rest").noconvert().none(), nb::arg("threads") = 1,
        nb::arg("means").noconvert() = nb::none());

    m.def(
        "add_difference",
        [](const WritableImage &frame, const Planes &change, const Planes &gain,
           const std::optional<Flow> &flow, const Matrix &matrix, int threads) {
            const int64_t size = side(change.shape(1), change.shape(2), "change");
            const int64_t cells = side(gain.shape(1), gain.shape(2), "gain");
            if (flow && (flow->shape(1) != gain.shape(1) || flow->shape(2) != gain.shape(2)))
                throw nb::value_error("flow must have the cells of gain");
            check_frame(frame.shape(0), frame.shape(1), "frame");
            const doppelgan::Affine map = affine(matrix, size);
            nb::gil_scoped_release release;
            doppelgan::add_difference(frame.data(), static_cast<int64_t>(frame.shape(0)),
                                      static_cast<int64_t>(frame.shape(1)), change.data(), size, gain.data(),
                                      flow ? flow->data() : nullptr, cells, map, threads);
        },
        nb::arg("frame").noconvert(), nb::arg("change").noconvert(), nb::arg("gain").noconvert(),
        nb::arg("flow").noconvert().none(), nb::arg("matrix").noconvert(), nb::arg("threads") = 1);

    m.def(
        "lightened",
        [](const WritableMaps &out, const Maps &moved, const Maps &edited, int threads) {
            const int64_t size = side(out.shape(1), out.shape(2), "out");
            if (out.shape(0) != 3) throw nb::value_error("pictures must have 3 channels");
            for (const Maps *one : {&moved, &edited})
                for (size_t axis = 0; axis < 3; ++axis)
                    if (one->shape(axis) != out.shape(axis)) throw nb::value_error("pictures must be of one size");
            nb::gil_scoped_release release;
            doppelgan::lightened(out.data(), moved.data(), edited.data(), size, threads);
        },
        nb::arg("out").noconvert(), nb::arg("moved").noconvert(), nb::arg("edited").noconvert(), nb::arg("threads") = 1);

    m.def(
        "fade_pixels",
        [](const WritableImage &frame, const Mask &share, const Maps &tint, const Matrix &matrix, int threads) {
            const int64_t cells = side(share.shape(0), share.shape(1), "share");
            if (tint.shape(0) != 3 || tint.shape(1) != share.shape(0) || tint.shape(2) != share.shape(0))
                throw nb::value_error("tint must have the cells of share, for 3 channels");
            check_frame(frame.shape(0), frame.shape(1), "frame");
            const doppelgan::Affine map = affine(matrix, cells);
            nb::gil_scoped_release release;
            doppelgan::fade_pixels(frame.data(), static_cast<int64_t>(frame.shape(0)),
                                   static_cast<int64_t>(frame.shape(1)), share.data(), tint.data(), cells, map, threads);
        },
        nb::arg("frame").noconvert(), nb::arg("share").noconvert(), nb::arg("tint").noconvert(),
        nb::arg("matrix").noconvert(), nb::arg("threads") = 1);

    m.def(
        "cell_means",
        [](const WritableMaps &out, const Maps &planes, int threads) {
            const int64_t cells = side(out.shape(1), out.shape(2), "out");
            const int64_t size = side(planes.shape(1), planes.shape(2), "planes");
            if (out.shape(0) != planes.shape(0) || size % cells != 0)
                throw nb::value_error("out must have as many maps as planes, of a size that divides theirs");
            nb::gil_scoped_release release;
            doppelgan::cell_means(out.data(), planes.data(), static_cast<int64_t>(out.shape(0)), size, cells,
                                  threads);
        },
        nb::arg("out").noconvert(), nb::arg("planes").noconvert(), nb::arg("threads") = 1);

    m.def(
        "read_cells",
        [](const WritableMaps &out, const Maps &maps, double real, double imag, double x, double y) {
            const int64_t size = side(maps.shape(1), maps.shape(2), "maps");
            if (size < 2) throw nb::value_error("maps must be 2 x 2 or larger");
            for (size_t axis = 0; axis < 3; ++axis)
                if (out.shape(axis) != maps.shape(axis)) throw nb::value_error("out must have the shape of maps");
            if (out.data() == maps.data()) throw nb::value_error("out must not be maps");
            const doppelgan::Turn to{real, imag, x, y};
            nb::gil_scoped_release release;
            doppelgan::read_cells(out.data(), maps.data(), static_cast<int64_t>(out.shape(0)), size, to);
        },
        nb::arg("out").noconvert(), nb::arg("maps").noconvert(), nb::arg("real"), nb::arg("imag"), nb::arg("x"),
        nb::arg("y"));

    m.def(
        "spread",
        [](const WritableMaps &out, const Points &place, const Points &shift, const Maps &down, const Maps &across,
           int threads) {
            const int64_t cells = side(out.shape(1), out.shape(2), "out");
            if (out.shape(0) != 2) throw nb::value_error("out must be x and y");
            if (place.shape(0) == 0) throw nb::value_error("place must not be empty");
            if (shift.shape(0) != place.shape(0)) throw nb::value_error("shift must be as long as place");
            for (const Maps *blurs : {&down, &across})
                if (blurs->shape(0) != down.shape(0) || blurs->shape(1) != out.shape(1) ||
                    blurs->shape(2) != out.shape(1))
                    throw nb::value_error("down and across must be as many, of the cells of out");
            const doppelgan::Blurs blurs{down.data(), across.data(), static_cast<int64_t>(down.shape(0))};
            nb::gil_scoped_release release;
            doppelgan::spread(out.data(), cells, place.data(), shift.data(), static_cast<int64_t>(place.shape(0)),
                              blurs, threads);
        },
        nb::arg("out").noconvert(), nb::arg("place").noconvert(), nb::arg("shift").noconvert(),
        nb::arg("down").noconvert(), nb::arg("across").noconvert(), nb::arg("threads") = 1);

    m.def(
        "know_face",
        [](const WritableRow &known, const WritableSlopes &slopes, const Mask &picture,
           const CellNumbers &cells, const Places &places) {
            const int64_t size = side(picture.shape(0), picture.shape(1), "picture");
            const size_t count = cells.shape(0);
            if (known.shape(0) != count || slopes.shape(1) != count || places.shape(1) != count)
                throw nb::value_error("known, slopes and places must be as long as cells");
            if (std::any_of(cells.data(), cells.data() + count,
                            [size](int32_t cell) { return cell < 0 || cell >= size * size; }))
                throw nb::value_error("cells must be those of the picture");
            nb::gil_scoped_release release;
            doppelgan::know_face(known.data(), slopes.data(), picture.data(), size, cells.data(), places.data(),
                                 places.data() + count, static_cast<int64_t>(count));
        },
        nb::arg("known").noconvert(), nb::arg("slopes").noconvert(), nb::arg("picture").noconvert(),
        nb::arg("cells").noconvert(), nb::arg("places").noconvert());

    m.def(
        "find_face",
        [](const Mask &picture, const Places &places, const Row &known, const Slopes &slopes,
           const Row &weight, int steps, double small, double large, double unlike, double noise,
           const std::tuple<double, double, double, double, double, double> &expected)
            -> std::optional<std::tuple<double, double, double, double>> {
            const int64_t size = side(picture.shape(0), picture.shape(1), "picture");
            const size_t count = known.shape(0);
            if (size < 2) throw nb::value_error("picture must be 2 x 2 or larger");
            if (count == 0) throw nb::value_error("known must not be empty");
            if (places.shape(1) != count || slopes.shape(1) != count || weight.shape(0) != count)
                throw nb::value_error("places, slopes and weight must be as long as known");
            const doppelgan::KnownFace face{places.data(), places.data() + count, known.data(),
                                            slopes.data(), weight.data(), static_cast<int64_t>(count)};
            const auto [a, b, c, d, e, f] = expected;
            const doppelgan::Search search{steps, small, large, unlike, noise, {a, b, c, d, e, f}};
            double place[4];
            nb::gil_scoped_release release;
            if (!doppelgan::find_face(face, picture.data(), size, search, place)) return std::nullopt;
            return std::tuple(place[0], place[1], place[2], place[3]);
        },
        nb::arg("picture").noconvert(), nb::arg("places").noconvert(), nb::arg("known").noconvert(),
        nb::arg("slopes").noconvert(), nb::arg("weight").noconvert(), nb::arg("steps"), nb::arg("small"),
        nb::arg("large"), nb::arg("unlike"), nb::arg("noise"), nb::arg("expected"));

    bind_maps(m);
    m.def("_use_avx2", &doppelgan::use_avx2, nb::arg("wanted"));
#if defined(WITH_NETWORKS)
    bind_synthesis(m);
    bind_encoder(m);
#endif
}
