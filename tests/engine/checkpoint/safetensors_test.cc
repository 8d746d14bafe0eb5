#include <gtest/gtest.h>

#include "engine/loader/safetensors_file.h"
#include "engine/loader/safetensors_writer.h"
#include "kernels/base/random.h"
#include "tests/engine/checkpoint/test_files.h"

namespace comet {
namespace {

std::string FileOf(std::string_view header, size_t data_bytes) {
  const uint64_t length = header.size();
  std::string bytes(reinterpret_cast<const char*>(&length), sizeof(length));
  bytes += header;
  bytes.append(data_bytes, '\0');
  return bytes;
}

Status OpenBytes(const std::string& bytes) {
  const TempFolder folder;
  WriteBytes(folder.PathOf("m"), bytes);
  return SafetensorsFile::Open(folder.PathOf("m")).status();
}

void ExpectDataLoss(const std::string& bytes, const std::string& in_message) {
  const Status status = OpenBytes(bytes);
  EXPECT_EQ(status.code(), StatusCode::kDataLoss) << status;
  EXPECT_NE(status.message().find(in_message), std::string::npos) << status;
}

TEST(Safetensors, WritesWhatItReads) {
  const TempFolder folder;
  const std::vector<float> floats = {1.5f, -2.0f, 3.0f};
  const std::vector<int8_t> codes = {1, -2, 3, -4, 5};
  {
    auto writer = SafetensorsWriter::Create(
        folder.PathOf("m"), {{"codes", DType::kI8, {5}}, {"floats", DType::kF32, {3, 1}}});
    ASSERT_TRUE(writer.ok()) << writer.status();
    ASSERT_TRUE((*writer)->Write("codes", codes).ok());
    ASSERT_TRUE((*writer)->Write("floats", floats).ok());
    ASSERT_TRUE((*writer)->Finish().ok());
  }

  const Result<SafetensorsFile> file = SafetensorsFile::Open(folder.PathOf("m"));

  ASSERT_TRUE(file.ok()) << file.status();
  const Result<ConstTensorView> read_floats = file->Find("floats", DType::kF32, {3, 1});
  ASSERT_TRUE(read_floats.ok()) << read_floats.status();
  EXPECT_EQ(read_floats->as<float>()[1], -2.0f);
  EXPECT_EQ(file->Find("codes", DType::kI8, {5})->as<int8_t>()[3], -4);
  EXPECT_EQ(file->Find("codes", DType::kU8, {5}).status().code(), StatusCode::kDataLoss);
  EXPECT_EQ(file->Find("codes", DType::kI8, {6}).status().code(), StatusCode::kDataLoss);
  EXPECT_EQ(file->Find("none", DType::kI8, {6}).status().code(), StatusCode::kDataLoss);
}

TEST(Safetensors, AcceptsAForeignHeaderWithMetadata) {
  EXPECT_TRUE(OpenBytes(FileOf(R"({"__metadata__":{"format":"pt"},)"
                               R"("a":{"dtype":"F16","shape":[2],"data_offsets":[0,4]}} )",
                               4))
                  .ok());
}

TEST(Safetensors, RefusesBadHeaders) {
  ExpectDataLoss("", "header length");
  ExpectDataLoss(std::string(8, '\xff'), "header length");
  ExpectDataLoss(FileOf(std::string((16 << 20) + 1, ' '), 0), "header length is 16777217");
  ExpectDataLoss(std::string("\x10\0\0\0\0\0\0\0", 8) + "{}", "header");
  ExpectDataLoss(FileOf("{", 0), "parse error");
  ExpectDataLoss(FileOf("[]", 0), "expected an object");
  ExpectDataLoss(FileOf(std::string(100'000, '['), 0), "deep");
  ExpectDataLoss(FileOf(R"({"a":3})", 0), "expected an object");
}

TEST(Safetensors, RefusesBadTensors) {
  const auto file = [](std::string_view tensor, size_t data_bytes) {
    return FileOf(R"({"a":)" + std::string(tensor) + "}", data_bytes);
  };
  ExpectDataLoss(file(R"({"shape":[1],"data_offsets":[0,4]})", 4), "dtype");
  ExpectDataLoss(file(R"({"dtype":"F32","shape":[2],"data_offsets":[0,4]})", 4), "expected 8");
  ExpectDataLoss(file(R"({"dtype":"F32","shape":[1],"data_offsets":[0,4]})", 3), "data_offsets");
  ExpectDataLoss(file(R"({"dtype":"F32","shape":[1],"data_offsets":[4,0]})", 4), "ascending");
  ExpectDataLoss(file(R"({"dtype":"F32","shape":[-1],"data_offsets":[0,4]})", 4), "shape");
  ExpectDataLoss(file(R"({"dtype":"F32","shape":[1e3],"data_offsets":[0,4]})", 4), "shape");
  ExpectDataLoss(file(R"({"dtype":"F32","shape":[18446744073709551615],"data_offsets":[0,4]})", 4),
                 "shape");
  ExpectDataLoss(file(R"({"dtype":"F32","shape":[0,2147483647,2147483647,2147483647],)"
                      R"("data_offsets":[0,0]})",
                      0),
                 "2^40");
  ExpectDataLoss(file(R"({"dtype":"F32","shape":[1,1,1,1,1],"data_offsets":[0,4]})", 4), "shape");
  EXPECT_EQ(OpenBytes(file(R"({"dtype":"F4","shape":[4],"data_offsets":[0,2]})", 2)).code(),
            StatusCode::kUnimplemented);
}

TEST(Safetensors, RefusesOverlapsAndGaps) {
  const auto pair = [](std::string_view first, std::string_view second) {
    return R"({"a":{"dtype":"U8","shape":[4],"data_offsets":)" + std::string(first) +
           R"(},"b":{"dtype":"U8","shape":[4],"data_offsets":)" + std::string(second) + "}}";
  };
  EXPECT_TRUE(OpenBytes(FileOf(pair("[0,4]", "[4,8]"), 8)).ok());
  ExpectDataLoss(FileOf(pair("[0,4]", "[3,7]"), 8), "begins at 3");
  ExpectDataLoss(FileOf(pair("[0,4]", "[0,4]"), 4), "begins at 0");
  ExpectDataLoss(FileOf(pair("[0,4]", "[5,9]"), 9), "begins at 5");
  ExpectDataLoss(FileOf(pair("[0,4]", "[4,8]"), 9), "data is 9");
}

TEST(Safetensors, RefusesUnalignedTensors) {
  // The data begins at byte 8 + header, 65 characters here.
  const TempFolder folder;
  WriteBytes(folder.PathOf("m"), FileOf(R"({"a":{"dtype":"F32","shape":[1],"data_offsets":[0,4]}})"
                                        R"(           )",
                                        4));
  const Result<SafetensorsFile> file = SafetensorsFile::Open(folder.PathOf("m"));
  ASSERT_TRUE(file.ok()) << file.status();

  const Status status = file->Find("a", DType::kF32, {1}).status();

  EXPECT_EQ(status.code(), StatusCode::kDataLoss);
  EXPECT_NE(status.message().find("expected a multiple of 4"), std::string::npos) << status;
}

TEST(Safetensors, KeepsTensorsThatNoOpTakesApart) {
  const TempFolder folder;
  WriteBytes(folder.PathOf("m"),
             FileOf(R"({"a":{"dtype":"I64","shape":[1],"data_offsets":[0,8]}})", 8));

  const Result<SafetensorsFile> file = SafetensorsFile::Open(folder.PathOf("m"));

  ASSERT_TRUE(file.ok()) << file.status();
  EXPECT_TRUE(file->tensors().empty());
  EXPECT_EQ(file->others().at("a"), "I64");
}

}  // namespace
}  // namespace comet
