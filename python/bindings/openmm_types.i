// SPDX-License-Identifier: MIT
// The few OpenMM types that our own bindings share with the module openmm. Importing these declarations makes SWIG use openmm's type table.
namespace OpenMM {
class System;
class Context;
class Force {
public:
    virtual ~Force();
};
}
