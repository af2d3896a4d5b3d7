// SPDX-License-Identifier: MIT
#pragma once
// Conversions between numpy's arrays and the core's matrices, shared by the binding files.

#include <Eigen/Core>
#include <nanobind/nanobind.h>
#include <nanobind/ndarray.h>
#include <optional>
#include <stdexcept>
#include <string>
#include <vector>

namespace nb = nanobind;

namespace Spacetime {

/// numpy's layout of a matrix with one point a row.
using Rows = Eigen::Matrix<double, Eigen::Dynamic, Eigen::Dynamic, Eigen::RowMajor>;

using FloatArray = nb::ndarray<nb::ro, double, nb::c_contig, nb::device::cpu>;

/// Whatever numpy can read as floats: lists and tuples as well as arrays of any dtype and order.
inline FloatArray floats(nb::handle x, size_t dimensions, const char* what) {
    using namespace nb::literals;
    nb::object array;
    try {
        array = nb::module_::import_("numpy").attr("ascontiguousarray")(x, "dtype"_a = "float64");
    }
    catch (nb::python_error& e) {
        throw std::invalid_argument(std::string(what) + ": expected numbers: " + nb::str(e.value()).c_str());
    }
    auto result = nb::cast<FloatArray>(array);
    if (result.ndim() != dimensions)
        throw std::invalid_argument(std::string(what) + ": expected an array of " + std::to_string(dimensions) + (dimensions == 1 ? " dimension" : " dimensions") + ", got " +
                                    std::to_string(result.ndim()));
    return result;
}

inline Eigen::VectorXd vectorOf(nb::handle x, const char* what) {
    const auto a = floats(x, 1, what);
    return Eigen::Map<const Eigen::VectorXd>(a.data(), a.shape(0));
}

/// numpy's rows are the core's columns: the same memory, read the other way.
inline Eigen::MatrixXd columnsOf(nb::handle x, const char* what) {
    const auto a = floats(x, 2, what);
    return Eigen::Map<const Eigen::MatrixXd>(a.data(), a.shape(1), a.shape(0));
}

inline Eigen::VectorXd weightsOf(nb::handle x) { return x.is_none() ? Eigen::VectorXd() : vectorOf(x, "logWeights"); }
inline Rows rowsOf(const Eigen::MatrixXd& m) { return m.transpose(); }

/// Matrices as one array [n, m, m]; None where there are none.
inline nb::object stack(const std::vector<Eigen::MatrixXd>& matrices) {
    if (matrices.empty())
        return nb::none();
    const size_t n = matrices.size(), m = matrices[0].rows();
    double* data = new double[n * m * m];
    nb::capsule owner(data, [](void* p) noexcept { delete[] static_cast<double*>(p); });
    for (size_t i = 0; i < n; i++)
        Eigen::Map<Rows>(data + i * m * m, m, m) = matrices[i];
    return nb::cast(nb::ndarray<nb::numpy, double>(data, {n, m, m}, owner));
}

/// numpy's array of whatever holds numbers: lists, arrays, tensors on any device. `what` is called so in errors.
inline nb::object numpyOf(nb::object x, const std::string& what) {
    if (nb::hasattr(x, "detach"))
        x = x.attr("detach")().attr("cpu")().attr("numpy")();
    try {
        return nb::module_::import_("numpy").attr("asarray")(x);
    }
    catch (nb::python_error& e) {
        throw std::invalid_argument(what + ": expected an array of numbers: " + nb::str(e.value()).c_str());
    }
}

/// The floats of a numpy array that must have this shape, as those that Python functions return must.
inline FloatArray floatsOfShape(const nb::object& array, const std::vector<size_t>& shape, const std::string& what) {
    using namespace nb::literals;
    nb::object floats64;
    try {
        floats64 = nb::module_::import_("numpy").attr("asarray")(array, "dtype"_a = "float64", "order"_a = "C");
    }
    catch (nb::python_error& e) {
        throw std::invalid_argument(what + ": expected numbers: " + nb::str(e.value()).c_str());
    }
    std::string expected;
    for (size_t s : shape)
        expected += (expected.empty() ? "(" : ", ") + std::to_string(s);
    const auto result = nb::cast<FloatArray>(floats64);
    bool fits = result.ndim() == shape.size();
    for (size_t i = 0; fits && i < shape.size(); i++)
        fits = result.shape(i) == shape[i];
    if (!fits)
        throw std::invalid_argument(what + ": expected the shape " + expected + (shape.size() == 1 ? ",)" : ")") + ", got " + nb::str(nb::object(array.attr("shape"))).c_str());
    return result;
}

/// None for an empty vector.
inline std::optional<Eigen::VectorXd> optional(const Eigen::VectorXd& v) { return v.size() ? std::optional<Eigen::VectorXd>(v) : std::nullopt; }

}  // namespace Spacetime
