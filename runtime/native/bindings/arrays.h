// The arrays that bindings of pixel kernels share.
#pragma once

#include <nanobind/nanobind.h>
#include <nanobind/ndarray.h>

#include <string>

namespace nb = nanobind;

using Planes = nb::ndarray<const float, nb::shape<3, -1, -1>, nb::c_contig, nb::device::cpu>;
using WritablePlanes = nb::ndarray<float, nb::shape<3, -1, -1>, nb::c_contig, nb::device::cpu>;
using Mask = nb::ndarray<const float, nb::shape<-1, -1>, nb::c_contig, nb::device::cpu>;
using WritableMask = nb::ndarray<float, nb::shape<-1, -1>, nb::c_contig, nb::device::cpu>;
using Flow = nb::ndarray<const float, nb::shape<2, -1, -1>, nb::c_contig, nb::device::cpu>;
using Maps = nb::ndarray<const float, nb::shape<-1, -1, -1>, nb::c_contig, nb::device::cpu>;
using WritableMaps = nb::ndarray<float, nb::shape<-1, -1, -1>, nb::c_contig, nb::device::cpu>;

inline int64_t side(size_t rows, size_t columns, const char *name) {
    if (rows != columns || rows == 0)
        throw nb::value_error((std::string(name) + " must be square and not empty").c_str());
    return static_cast<int64_t>(rows);
}
