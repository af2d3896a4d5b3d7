// SPDX-License-Identifier: MIT
#pragma once

#include <nanobind/nanobind.h>
#include <vector>

namespace Spacetime {

// A Python function knows the module it was written in, and so whatever that module keeps in a variable: an object here that holds the function may be
// held by it in turn. Python's collector finds such circles through these two; without them the objects would outlive the interpreter, which says so.

template <class T>
int visitHeld(PyObject* self, visitproc visit, void* arg) {
    Py_VISIT(Py_TYPE(self));
    if (nanobind::inst_ready(self))
        for (nanobind::object* o : nanobind::inst_ptr<T>(self)->held())
            Py_VISIT(o->ptr());
    return 0;
}

template <class T>
int clearHeld(PyObject* self) {
    for (nanobind::object* o : nanobind::inst_ptr<T>(self)->held())
        o->reset();
    return 0;
}

/// For nb::class_<T> whose T has `std::vector<nb::object*> held()`, the Python objects that it holds.
template <class T>
nanobind::type_slots holdingSlots() {
    static PyType_Slot slots[] = {{Py_tp_traverse, reinterpret_cast<void*>(visitHeld<T>)}, {Py_tp_clear, reinterpret_cast<void*>(clearHeld<T>)}, {0, nullptr}};
    return nanobind::type_slots(slots);
}

}  // namespace Spacetime
