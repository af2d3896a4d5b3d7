// SPDX-License-Identifier: MIT
#pragma once

#include <exception>
#include <functional>
#include <nanobind/nanobind.h>
#include <stdexcept>

namespace Spacetime {

/// Runs `solve`, which calls `callback`, without the GIL. The callback hands on to the caller's `progress`; Ctrl-C stops the work and is raised here,
/// and so is an exception of that function, also where `solve` throws because it was stopped. Until then it is kept aside: `solve` may go on to call
/// Python functions, which must not find an exception set.
template <class Solve>
auto interruptible(std::function<bool(double)>& callback, const nanobind::object& progress, Solve solve) {
    namespace nb = nanobind;
    std::exception_ptr failure;
    callback = [&failure, &progress](double fraction) {
        nb::gil_scoped_acquire gil;
        if (failure)
            return false;
        try {
            if (PyErr_CheckSignals() != 0)
                throw nb::python_error();
            if (fraction < 0 || progress.is_none())
                return true;
            nb::object answer = progress(fraction);
            return !answer.is(nb::handle(Py_False));
        }
        catch (nb::python_error&) {
            failure = std::current_exception();
            return false;
        }
    };
    try {
        auto results = [&] {
            nb::gil_scoped_release release;
            return solve();
        }();
        callback = nullptr;
        if (failure)
            std::rethrow_exception(failure);
        return results;
    }
    catch (const std::runtime_error&) {
        callback = nullptr;
        if (failure)
            std::rethrow_exception(failure);
        throw;
    }
}

}  // namespace Spacetime
