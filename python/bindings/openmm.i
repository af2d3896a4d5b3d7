// SPDX-License-Identifier: MIT
// The thin layer under openmmspacetime.SpacetimeForce and PathSampler: only what touches openmm's own objects, hence SWIG, whose type table openmm
// uses. Units, defaults and documentation live in force.py and sampling.py. Arrays of numbers cross as buffers: any object with a contiguous
// buffer of float64 (or intc, for indices) comes in, bytes go out.
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

template <class T>
static bool readBuffer(PyObject* object, std::vector<T>& result, const char* format, const char* expected) {
    Py_buffer view;
    if (PyObject_GetBuffer(object, &view, PyBUF_FORMAT | PyBUF_C_CONTIGUOUS) != 0)
        return false;
    bool isRight = (view.itemsize == sizeof(T) && view.format != nullptr && std::string(view.format) == format);
    if (isRight) {
        const T* data = static_cast<const T*>(view.buf);
        result.assign(data, data+view.len/sizeof(T));
    }
    else
        PyErr_SetString(PyExc_TypeError, expected);
    PyBuffer_Release(&view);
    return isRight;
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
    if (!readBuffer($input, numbers, "d", "expected a contiguous array of float64"))
        SWIG_fail;
    $1 = &numbers;
}
%typemap(in) const std::vector<int>& (std::vector<int> numbers) {
    if (!readBuffer($input, numbers, "i", "expected a contiguous array of intc"))
        SWIG_fail;
    $1 = &numbers;
}
%typemap(out) std::vector<double>, std::vector<int> %{ $result = toBytes($1); %}
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
    enum VariableType { Torsion = 0, Coordinate = 1, Angle = 2, Distance = 3, Position = 4 };
    SpacetimeForce(const std::vector<double>& s, const std::vector<double>& eta, double temperature);
    int getNumVariables() const;
    int getNumStatistics() const;
    int addCentroid(const std::vector<int>& particles, const std::vector<double>& weights);
    int getNumCentroids() const;
    int getNumFrames() const;
    int addTorsion(int site1, int site2, int site3, int site4, const std::string& name);
    int addCoordinate(int site, int axis, double period, double shift, double scale, const std::string& name);
    int addAngle(int site1, int site2, int site3, double shift, double scale, const std::string& name);
    int addDistance(int site1, int site2, double shift, double scale, const std::string& name);
    int addPosition(int site, int axis, int frame, double shift, double scale, const std::string& name);
    VariableType getVariableType(int index) const;
    static const char* getVariableTypeName(VariableType type);
    const std::string& getVariableName(int index) const;
    void setVariableName(int index, const std::string& name);
    void getTorsionParameters(int index, int& OUTPUT, int& OUTPUT, int& OUTPUT, int& OUTPUT) const;
    void setTorsionParameters(int index, int site1, int site2, int site3, int site4);
    void getCoordinateParameters(int index, int& OUTPUT, int& OUTPUT, double& OUTPUT, double& OUTPUT, double& OUTPUT) const;
    void setCoordinateParameters(int index, int site, int axis, double period, double shift, double scale);
    void getAngleParameters(int index, int& OUTPUT, int& OUTPUT, int& OUTPUT, double& OUTPUT, double& OUTPUT) const;
    void setAngleParameters(int index, int site1, int site2, int site3, double shift, double scale);
    void getDistanceParameters(int index, int& OUTPUT, int& OUTPUT, double& OUTPUT, double& OUTPUT) const;
    void setDistanceParameters(int index, int site1, int site2, double shift, double scale);
    void getPositionParameters(int index, int& OUTPUT, int& OUTPUT, int& OUTPUT, double& OUTPUT, double& OUTPUT) const;
    void setPositionParameters(int index, int site, int axis, int frame, double shift, double scale);
    int addWalker(int offset, double intercept, double slope);
    int getNumWalkers() const;
    void getWalkerParameters(int index, int& OUTPUT, double& OUTPUT, double& OUTPUT) const;
    void setWalkerParameters(int index, int offset, double intercept, double slope);
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
        // Lists of which C++ hands out several at once.
        std::vector<int> _centroidParticles(int handle) const {
            std::vector<int> particles;
            std::vector<double> weights;
            $self->getCentroidParameters(handle, particles, weights);
            return particles;
        }
        std::vector<double> _centroidWeights(int handle) const {
            std::vector<int> particles;
            std::vector<double> weights;
            $self->getCentroidParameters(handle, particles, weights);
            return weights;
        }
        int _addFrame(const std::vector<int>& sites, const std::vector<double>& reference, const std::vector<double>& weights) {
            std::vector<OpenMM::Vec3> points;
            for (size_t i = 0; i+2 < reference.size(); i += 3)
                points.push_back(OpenMM::Vec3(reference[i], reference[i+1], reference[i+2]));
            return $self->addFrame(sites, points, weights);
        }
        std::vector<int> _frameSites(int frame) const {
            std::vector<int> sites;
            std::vector<OpenMM::Vec3> reference;
            std::vector<double> weights;
            $self->getFrameParameters(frame, sites, reference, weights);
            return sites;
        }
        std::vector<double> _frameReference(int frame) const {
            std::vector<int> sites;
            std::vector<OpenMM::Vec3> reference;
            std::vector<double> weights, result;
            $self->getFrameParameters(frame, sites, reference, weights);
            for (const OpenMM::Vec3& r : reference)
                result.insert(result.end(), {r[0], r[1], r[2]});
            return result;
        }
        std::vector<double> _frameWeights(int frame) const {
            std::vector<int> sites;
            std::vector<OpenMM::Vec3> reference;
            std::vector<double> weights;
            $self->getFrameParameters(frame, sites, reference, weights);
            return weights;
        }
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
    static int stepsForLength(double stepsPerLength, double length, int stepsPerMove);
    bool isBackward() const;
    void setBackward(bool isBackward);
    int getNumPullSteps() const;
    void setNumPullSteps(int steps);
    double getMaxStartDistance() const;
    void setMaxStartDistance(double widths);
    void checkStart(OpenMM::Context& context) const;
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
    const std::vector<double>& getFrameEnergy() const;
    const std::vector<double>& getFrameBias() const;
    void clearFrames();
    long long getNumGradientEvaluations() const;
    long long getNumEnergyEvaluations() const;
};

}
