// SPDX-License-Identifier: MIT
#include "Xml.h"
#include "openmm/serialization/SerializationNode.h"
#include "openmm/serialization/SerializationProxy.h"
#include <cstring>
#include <stdexcept>
#include <vector>

using std::string;

namespace Spacetime {

namespace {

const size_t MaxDepth = 64;

struct Envelope {};

class EnvelopeProxy : public OpenMM::SerializationProxy {
public:
    string kind;
    mutable string found;

    EnvelopeProxy() : SerializationProxy("SpacetimeEnvelope") {}
    void serialize(const void*, OpenMM::SerializationNode&) const override { throw OpenMM::OpenMMException("an envelope is not written"); }
    void* deserialize(const OpenMM::SerializationNode& node) const override {
        const auto& children = node.getChildren();
        const string type = children.size() == 1 && children[0].hasProperty("type") ? children[0].getStringProperty("type") : "";
        if (type.size() < kind.size() || type.compare(type.size() - kind.size(), kind.size(), kind) != 0) {
            found = type.empty() ? "something else" : "a " + type;
            throw OpenMM::OpenMMException(found);
        }
        return SerializationProxy::getProxy(type).deserialize(children[0]);
    }
    static EnvelopeProxy& instance() {
        static auto* const proxy = [] {
            auto* const made = new EnvelopeProxy;  // OpenMM keeps it
            registerProxy(typeid(Envelope), made);
            return made;
        }();
        return *proxy;
    }
};

/// Where the declaration <?xml ... ?> ends, 0 where there is none.
size_t declarationEnd(const string& text) {
    const size_t begin = text.find_first_not_of(" \t\r\n");
    if (begin == string::npos || text.compare(begin, 2, "<?") != 0)
        return 0;
    const size_t end = text.find("?>", begin);
    return end == string::npos ? 0 : end + 2;
}

class Scanner {
public:
    explicit Scanner(const string& text) : text(text), at(declarationEnd(text)) {}

    void run() {
        std::vector<string> open;
        for (space(); at < text.size(); space()) {
            if (text[at] != '<')
                fail("expected an element");
            if (text.compare(at, 4, "<!--") == 0) {
                comment();
                continue;
            }
            at++;
            if (peek() == '/') {
                at++;
                if (open.empty() || name() != open.back())
                    fail("the end of an element that is not open");
                open.pop_back();
                space();
                take('>');
                continue;
            }
            open.push_back(name());
            if (open.size() > MaxDepth)
                fail("elements nested more than " + std::to_string(MaxDepth) + " levels deep");
            while (space() && peek() != '>' && peek() != '/')
                attribute();
            if (peek() == '/') {
                at++;
                open.pop_back();
            }
            take('>');
        }
        if (!open.empty())
            fail("the element '" + open.back() + "' has no end");
    }

private:
    const string& text;
    size_t at;

    [[noreturn]] void fail(const string& what) const { throw std::invalid_argument("not XML as OpenMM writes it, at byte " + std::to_string(at) + ": " + what); }
    char peek() const { return at < text.size() ? text[at] : '\0'; }
    void take(char c) {
        if (peek() != c)
            fail(string("expected ") + c);
        at++;
    }
    /// Whether there was any.
    bool space() {
        const size_t begin = at;
        while (at < text.size() && std::strchr(" \t\r\n", text[at]) != nullptr && text[at] != '\0')
            at++;
        return at > begin;
    }
    string name() {
        const size_t begin = at;
        while (at < text.size() && (std::isalnum(static_cast<unsigned char>(text[at])) != 0 || std::strchr("_-.:", text[at]) != nullptr) && text[at] != '\0')
            at++;
        if (at == begin)
            fail("expected a name");
        return text.substr(begin, at - begin);
    }
    /// OpenMM's parser counts angle brackets to find its end.
    void comment() {
        const size_t end = text.find("-->", at + 4), bracket = text.find_first_of("<>", at + 4);
        if (end == string::npos || bracket != end + 2)
            fail("a comment without an end, or with < or > in it");
        at = end + 3;
    }
    void attribute() {
        name();
        space();
        take('=');
        space();
        take('"');
        while (at < text.size() && text[at] != '"') {
            if (text[at] == '<' || text[at] == '\0')
                fail("a value with a character that cannot stand there");
            at++;
        }
        take('"');
    }
};

}  // namespace

XmlEnvelope::XmlEnvelope(const string& kind) {
    EnvelopeProxy::instance().kind = kind;
    EnvelopeProxy::instance().found.clear();
}

string XmlEnvelope::wrapped(const string& text) const {
    if (text.find('<') == string::npos)
        EnvelopeProxy::instance().found = "something else";
    Scanner(text).run();
    return "<Envelope type=\"SpacetimeEnvelope\">" + text.substr(declarationEnd(text)) + "</Envelope>";
}

const string& XmlEnvelope::found() const { return EnvelopeProxy::instance().found; }

}  // namespace Spacetime
