// SPDX-License-Identifier: MIT
// The thin layer under openmmspacetime.SpacetimeForce and PathSampler: only what touches openmm's own objects, hence SWIG, whose type table openmm
// uses. Units, defaults and documentation live in force.py and sampling.py. Arrays of numbers cross as buffers: any object with a contiguous
// buffer of float64 comes in, bytes go out.
%module(package="openmmspacetime", threads="1") openmm_wrapper

%{
#include "OpenMM.h"
#include "openmm/serialization/XmlSerializer.h"
#include "openmmspacetime/PathSampler.h"
#include "openmmspacetime/SpacetimeForce.h"
#include <sstream>

using SpacetimePlugin::PathSampler;
using SpacetimePlugin::SpacetimeForce;

static void setOpenMMException(const char* message) {
    PyObject* module = PyImport_ImportModule("openmm");
    if (module == nullptr)
        return;
    PyObject* type = PyObject_GetAttrString(module, "OpenMMException");
    Py_DECREF(module);
    if (type == nullptr)
        return;
    PyErr_SetString(type, message);
    Py_DECREF(type);
}

static bool readDoubles(PyObject* object, std::vector<double>& result) {
    Py_buffer view;
    if (PyObject_GetBuffer(object, &view, PyBUF_FORMAT | PyBUF_C_CONTIGUOUS) != 0)
        return false;
    bool isDouble = (view.itemsize == sizeof(double) && view.format != nullptr && std::string(view.format) == "d");
    if (isDouble) {
        const double* data = static_cast<const double*>(view.buf);
        result.assign(data, data+view.len/sizeof(double));
    }
    else
        PyErr_SetString(PyExc_TypeError, "expected a contiguous array of float64");
    PyBuffer_Release(&view);
    return isDouble;
}

template <class T>
static PyObject* toBytes(const std::vector<T>& values) {
    return PyBytes_FromStringAndSize(reinterpret_cast<const char*>(values.data()), values.size()*sizeof(T));
}
%}

%include <std_string.i>
%include <typemaps.i>
%import(module="openmm") "openmm_types.i"

%exception {
    try {
        $action
    }
    catch (const OpenMM::OpenMMException& e) {
        setOpenMMException(e.what());
        SWIG_fail;
    }
    catch (const std::exception& e) {
        PyErr_SetString(PyExc_RuntimeError, e.what());
        SWIG_fail;
    }
}

%typemap(in) const std::vector<double>& (std::vector<double> numbers) {
    if (!readDoubles($input, numbers))
        SWIG_fail;
    $1 = &numbers;
}
%typemap(out) std::vector<double> %{ $result = toBytes($1); %}
%typemap(out) const std::vector<double>&, const std::vector<float>&, const std::vector<int>& %{ $result = toBytes(*$1); %}

// Calls that compute something let other Python threads run meanwhile.
%feature("nothreadallow") "1";
%feature("nothreadallow", "") SpacetimePlugin::PathSampler::begin;
%feature("nothreadallow", "") SpacetimePlugin::PathSampler::advance;
%feature("nothreadallow", "") SpacetimePlugin::SpacetimeForce::updateParametersInContext;
%feature("nothreadallow", "") SpacetimePlugin::SpacetimeForce::getBiasEnergy;

%newobject SpacetimePlugin::SpacetimeForce::_fromXml;
%newobject SpacetimePlugin::SpacetimeForce::_copy;

namespace SpacetimePlugin {

class SpacetimeForce : public OpenMM::Force {
public:
    enum VariableType { Torsion = 0, Coordinate = 1 };
    SpacetimeForce(const std::vector<double>& s, const std::vector<double>& eta, double temperature);
    int getNumVariables() const;
    int getNumStatistics() const;
    int addTorsion(int particle1, int particle2, int particle3, int particle4, const std::string& name);
    int addCoordinate(int particle, int axis, double period, double shift, double scale, const std::string& name);
    VariableType getVariableType(int index) const;
    const std::string& getVariableName(int index) const;
    void setVariableName(int index, const std::string& name);
    void getTorsionParameters(int index, int& OUTPUT, int& OUTPUT, int& OUTPUT, int& OUTPUT) const;
    void setTorsionParameters(int index, int particle1, int particle2, int particle3, int particle4);
    void getCoordinateParameters(int index, int& OUTPUT, int& OUTPUT, double& OUTPUT, double& OUTPUT, double& OUTPUT) const;
    void setCoordinateParameters(int index, int particle, int axis, double period, double shift, double scale);
    const std::vector<double>& getS() const;
    const std::vector<double>& getEta() const;
    void setCurve(const std::vector<double>& s, const std::vector<double>& eta);
    std::vector<double> evaluateEta(double s) const;
    std::vector<double> evaluateEtaDerivative(double s) const;
    double getTemperature() const;
    void setTemperature(double temperature);
    double getDefaultS() const;
    void setDefaultS(double s);
    const std::string& getParameterName() const;
    void setParameterName(const std::string& name);
    static const std::string& KT();
    bool usesPeriodicBoundaryConditions() const;
    void setUsesPeriodicBoundaryConditions(bool periodic);
    void updateParametersInContext(OpenMM::Context& context);
    double getBiasEnergy(OpenMM::Context& context) const;
    // These return through the typemap for vectors, which needs the interpreter.
    std::vector<double> getVariableValues(OpenMM::Context& context) const;
    std::vector<double> getStatistic(OpenMM::Context& context) const;

    %extend {
        SpacetimeForce* _copy() const {
            return new SpacetimeForce(*$self);
        }
        std::string _toXml() const {
            std::stringstream buffer;
            OpenMM::XmlSerializer::serialize<OpenMM::Force>($self, "Force", buffer);
            return buffer.str();
        }
        static SpacetimeForce* _fromXml(const std::string& xml) {
            std::stringstream buffer(xml);
            OpenMM::Force* force = OpenMM::XmlSerializer::deserialize<OpenMM::Force>(buffer);
            SpacetimeForce* result = dynamic_cast<SpacetimeForce*>(force);
            if (result == nullptr) {
                delete force;
                throw OpenMM::OpenMMException("SpacetimeForce: the XML holds another kind of Force");
            }
            return result;
        }
        static SpacetimeForce* _cast(OpenMM::Force* force) {
            return dynamic_cast<SpacetimeForce*>(force);
        }
    }
};

class PathSampler {
public:
    PathSampler(const SpacetimeForce& force, int numSteps);
    int getNumSteps() const;
    int getStepsPerMove() const;
    void setStepsPerMove(int steps);
    int getNumEquilibrationSteps() const;
    void setNumEquilibrationSteps(int steps);
    int getEnergyStride() const;
    void setEnergyStride(int stride);
    int getFrameStride() const;
    void setFrameStride(int stride);
    void begin(OpenMM::Context& context);
    bool advance(int maxSteps);
    long long getNumStepsDone() const;
    long long getNumStepsTotal() const;
    int getNumVariables() const;
    int getNumParticles() const;
    const std::vector<double>& getS() const;
    const std::vector<double>& getVariables() const;
    const std::vector<double>& getFinalVariables() const;
    const std::vector<double>& getWorkProfile() const;
    double getWork() const;
    const std::vector<int>& getEnergySteps() const;
    const std::vector<double>& getPotentialEnergy() const;
    const std::vector<int>& getFrameSteps() const;
    const std::vector<float>& getFrames() const;
    const std::vector<double>& getBoxVectors() const;
    void clearFrames();
    long long getNumGradientEvaluations() const;
    long long getNumEnergyEvaluations() const;
};

}
