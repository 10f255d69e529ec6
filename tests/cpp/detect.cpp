// Runs an exported detector on a clip, and prints its boxes.
//
//   detect FOLDER CLIP T B H W [DEVICE]
//
// FOLDER holds model.ptjit and info_ssd_jit.json; CLIP is a file of T*B*C*H*W float32 values, frames scaled as the JSON
// tells. The clip is shown three times, one time step after the other: first without memory, then with the memory of
// the first showing, then after reset_all(). A line a box: showing, t, stream, x, y, width, height, score, class.

#include <torch/script.h>

#include <cstdio>
#include <fstream>
#include <iostream>
#include <iterator>
#include <stdexcept>
#include <string>
#include <vector>

namespace {

std::vector<char> read_file(const std::string& path) {
    std::ifstream file(path, std::ios::binary);
    if (!file) throw std::runtime_error(path + ": cannot be read");
    return {std::istreambuf_iterator<char>(file), {}};
}

// Where the value of a key begins. The file is ours and flat enough: no key is also a text in it.
std::size_t value_of(const std::string& json, const std::string& key) {
    const auto found = json.find("\"" + key + "\":");
    if (found == std::string::npos) throw std::runtime_error("info_ssd_jit.json: " + key + " is missing");
    return json.find_first_not_of(" \n", found + key.size() + 3);
}

double number(const std::string& json, const std::string& key) { return std::stod(json.substr(value_of(json, key))); }

std::vector<std::string> texts(const std::string& json, const std::string& key) {
    std::vector<std::string> found;
    auto at = value_of(json, key);
    const auto end = json.find(']', at);
    while ((at = json.find('"', at)) < end) {
        const auto close = json.find('"', at + 1);
        found.push_back(json.substr(at + 1, close - at - 1));
        at = close + 1;
    }
    return found;
}

struct Detector {
    torch::jit::Module model;
    double score_thresh, nms_thresh;
    int64_t max_boxes, channels;
    std::vector<std::string> classes;
    torch::Device device;

    Detector(const std::string& folder, const torch::Device& where)
        : model(torch::jit::load(folder + "/model.ptjit", where)), device(where) {
        const auto bytes = read_file(folder + "/info_ssd_jit.json");
        const std::string json(bytes.begin(), bytes.end());
        score_thresh = number(json, "score_thresh");
        nms_thresh = number(json, "nms_thresh");
        max_boxes = static_cast<int64_t>(number(json, "max_boxes_per_input"));
        channels = static_cast<int64_t>(number(json, "in_channels"));
        classes = texts(json, "classes");
    }

    // Frames (T, B, C, H, W) to rows x, y, width, height, score, class, by time step and stream.
    c10::List<c10::IValue> detect(const at::Tensor& frames) {
        return model.get_method("detect")({frames.to(device), score_thresh, nms_thresh, max_boxes}).toList();
    }

    void reset_all() { model.get_method("reset_all")({}); }
};

void print(const at::Tensor& found, int showing, int64_t t, int64_t stream, const std::vector<std::string>& classes) {
    const auto rows = found.to(at::kCPU).contiguous();
    for (const float* r = rows.const_data_ptr<float>(); r != rows.const_data_ptr<float>() + rows.numel(); r += 6)
        std::printf("%d %lld %lld %.9g %.9g %.9g %.9g %.9g %s\n", showing, static_cast<long long>(t),
                    static_cast<long long>(stream), r[0], r[1], r[2], r[3], r[4],
                    classes.at(static_cast<std::size_t>(r[5]) - 1).c_str());
}

void run(const std::vector<std::string>& arguments) {
    const c10::InferenceMode guard;
    Detector detector(arguments[0], torch::Device(arguments.size() > 6 ? arguments[6] : "cpu"));
    const auto size = [&](int index) { return std::stoll(arguments[index]); };
    const std::vector<int64_t> shape{size(2), size(3), detector.channels, size(4), size(5)};
    auto bytes = read_file(arguments[1]);
    if (bytes.size() != sizeof(float) * c10::multiply_integers(shape))
        throw std::runtime_error(arguments[1] + ": holds " + std::to_string(bytes.size()) + " bytes, not T*B*C*H*W*4");
    const auto clip = at::from_blob(bytes.data(), shape, at::kFloat);
    for (int showing = 0; showing < 3; ++showing) {
        if (showing == 2) detector.reset_all();
        for (int64_t t = 0; t < shape[0]; ++t) {
            const auto streams = detector.detect(clip.narrow(0, t, 1)).get(0).toList();
            for (int64_t b = 0; b < shape[1]; ++b)
                print(streams.get(b).toTensor(), showing, t, b, detector.classes);
        }
    }
}

}  // namespace

int main(int argc, char** argv) {
    const std::vector<std::string> arguments(argv + 1, argv + argc);
    if (arguments.size() < 6) {
        std::cerr << "usage: detect FOLDER CLIP T B H W [DEVICE]\n";
        return 2;
    }
    try {
        run(arguments);
    } catch (const std::exception& error) {
        std::cerr << error.what() << "\n";
        return 1;
    }
    return 0;
}
