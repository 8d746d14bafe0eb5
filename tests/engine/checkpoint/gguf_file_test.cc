#include "engine/loader/gguf_file.h"

#include <gtest/gtest.h>

#include <algorithm>

#include "engine/loader/float_source.h"
#include "kernels/base/random.h"
#include "tests/engine/checkpoint/test_files.h"
#include "tests/engine/test_data.h"

namespace comet {
namespace {

// Opens a file of these bytes.
Status OpenBytes(const std::string& bytes) {
  const TempFolder folder;
  WriteBytes(folder.PathOf("model.gguf"), bytes);
  return GgufFile::Open(folder.PathOf("model.gguf")).status();
}

void ExpectDataLoss(const GgufBuilder& builder, const std::string& in_message) {
  const Status status = OpenBytes(builder.bytes());
  EXPECT_EQ(status.code(), StatusCode::kDataLoss) << status;
  EXPECT_NE(status.message().find(in_message), std::string::npos) << status;
}

TEST(GgufFile, ReadsMetadataAndTensors) {
  const TempFolder folder;
  GgufBuilder builder;
  builder.Head(1, 2).Int("a", 7).String("b", "text").Tensor("t", {4, 2}, 0, 0).Data(32);
  WriteBytes(folder.PathOf("m"), builder.bytes());

  const Result<GgufFile> file = GgufFile::Open(folder.PathOf("m"));

  ASSERT_TRUE(file.ok()) << file.status();
  EXPECT_EQ(**file->FindInt("a"), 7);
  EXPECT_EQ(**file->FindString("b"), "text");
  EXPECT_FALSE(file->FindInt("c")->has_value());
  EXPECT_EQ(file->FindFloat("a").status().code(), StatusCode::kDataLoss);
  ASSERT_NE(file->FindTensor("t"), nullptr);
  EXPECT_EQ(file->FindTensor("t")->dims, (std::vector<int>{2, 4}));
  EXPECT_EQ(file->FindTensor("t")->data.size(), 32u);
}

TEST(GgufFile, NamesWhatIsMissing) {
  const TempFolder folder;

  EXPECT_EQ(GgufFile::Open(folder.PathOf("none")).status().code(), StatusCode::kNotFound);
  EXPECT_EQ(GgufFile::Open(folder.PathOf("")).status().code(), StatusCode::kInvalidArgument);
}

TEST(GgufFile, RefusesAnEmptyFile) { ExpectDataLoss(GgufBuilder(), "magic"); }

TEST(GgufFile, RefusesAnotherMagic) {
  GgufBuilder builder;
  builder.Put<uint32_t>(0x12345678).Put<uint32_t>(3).Put<uint64_t>(0).Put<uint64_t>(0);
  ExpectDataLoss(builder, "magic");
}

TEST(GgufFile, RefusesOtherVersions) {
  for (const uint32_t version : {0u, 1u, 4u, 0x03000000u}) {
    GgufBuilder builder;
    builder.Head(0, 0, version);
    EXPECT_EQ(OpenBytes(builder.bytes()).code(), StatusCode::kUnimplemented) << version;
  }
}

TEST(GgufFile, RefusesAbsurdCounts) {
  for (const uint64_t count : {uint64_t{1}, uint64_t{1} << 20, uint64_t{1} << 60, ~uint64_t{0}}) {
    ExpectDataLoss(GgufBuilder().Head(count, 0), "tensor_count");
    ExpectDataLoss(GgufBuilder().Head(0, count), "kv_count");
    GgufBuilder floats;
    floats.Head(0, 1).PutText("k").Put<uint32_t>(9).Put<uint32_t>(6).Put(count);
    ExpectDataLoss(floats, "k: has count");
    GgufBuilder strings;
    strings.Head(0, 1).PutText("k").Put<uint32_t>(9).Put<uint32_t>(8).Put(count);
    ExpectDataLoss(strings, "k: has count");
  }
}

TEST(GgufFile, RefusesAbsurdStrings) {
  for (const uint64_t length : {uint64_t{100}, uint64_t{1} << 40, ~uint64_t{0}, ~uint64_t{0} - 7}) {
    ExpectDataLoss(GgufBuilder().Head(0, 1).Put(length).Put<uint64_t>(0), "key 0");
    ExpectDataLoss(GgufBuilder().Head(0, 1).PutText("k").Put<uint32_t>(8).Put(length), "k: has");
    ExpectDataLoss(
        GgufBuilder().Head(1, 0).Put(length).Put<uint64_t>(0).Put<uint64_t>(0).Put<uint64_t>(0),
        "name of tensor 0");
  }
}

TEST(GgufFile, RefusesUnknownValueTypes) {
  ExpectDataLoss(GgufBuilder().Head(0, 1).PutText("k").Put<uint32_t>(13).Put<uint64_t>(0), "type");
  ExpectDataLoss(
      GgufBuilder().Head(0, 1).PutText("k").Put<uint32_t>(9).Put<uint32_t>(9).Put<uint64_t>(0),
      "type");
}

TEST(GgufFile, RefusesRepeatedNames) {
  ExpectDataLoss(GgufBuilder().Head(0, 2).Int("k", 1).Int("k", 2), "twice");
  ExpectDataLoss(GgufBuilder().Head(2, 0).Tensor("t", {1}, 0, 0).Tensor("t", {1}, 0, 32).Data(64),
                 "twice");
}

TEST(GgufFile, RefusesBadShapes) {
  const uint64_t large = uint64_t{1} << 31;
  ExpectDataLoss(GgufBuilder().Head(1, 0).Tensor("t", {}, 0, 0).Data(64), "dimensions");
  ExpectDataLoss(GgufBuilder().Head(1, 0).Tensor("t", {1, 1, 1, 1, 1}, 0, 0).Data(64),
                 "dimensions");
  ExpectDataLoss(GgufBuilder().Head(1, 0).Tensor("t", {0}, 0, 0).Data(64), "dimension 0");
  ExpectDataLoss(GgufBuilder().Head(1, 0).Tensor("t", {large}, 0, 0).Data(64), "dimension");
  ExpectDataLoss(
      GgufBuilder().Head(1, 0).Tensor("t", {large - 1, large - 1, large - 1}, 0, 0).Data(64),
      "dimension");
  ExpectDataLoss(GgufBuilder().Head(1, 0).Tensor("t", {33}, 3, 0).Data(64), "groups of 32");
}

TEST(GgufFile, RefusesTensorsOutsideTheFile) {
  ExpectDataLoss(GgufBuilder().Head(1, 0).Tensor("t", {16}, 0, 32).Data(64), "bytes at");
  ExpectDataLoss(GgufBuilder().Head(1, 0).Tensor("t", {16}, 0, ~uint64_t{31}).Data(64), "offset");
  ExpectDataLoss(GgufBuilder().Head(1, 0).Tensor("t", {16}, 0, 8).Data(128), "multiple of 32");
  ExpectDataLoss(GgufBuilder().Head(1, 0).Tensor("t", {16}, 0, 0), "t: ");
}

TEST(GgufFile, RefusesOverlappingTensors) {
  ExpectDataLoss(
      GgufBuilder().Head(2, 0).Tensor("a", {16}, 0, 0).Tensor("b", {16}, 0, 32).Data(128),
      "where a ends");
}

TEST(GgufFile, KeepsTensorTypesItDoesNotKnow) {
  const TempFolder folder;
  WriteBytes(folder.PathOf("m"), GgufBuilder()
                                     .Head(3, 0)
                                     .Tensor("a", {256}, 11, 0)
                                     .Tensor("b", {16}, 0, 128)
                                     .Tensor("c", {7, 1 << 20, 1 << 16}, 4000000000, 192)
                                     .Data(256)
                                     .bytes());

  const Result<GgufFile> file = GgufFile::Open(folder.PathOf("m"));

  ASSERT_TRUE(file.ok()) << file.status();
  EXPECT_EQ(ToString(file->FindTensor("a")->type), "Q3_K");
  EXPECT_EQ(ToString(file->FindTensor("c")->type), "type 4000000000");
  EXPECT_TRUE(file->FindTensor("a")->data.empty());
  EXPECT_EQ(file->FindTensor("b")->data.size(), 64u);
  EXPECT_EQ(CheckKnown(file->FindTensor("a")->type).code(), StatusCode::kUnimplemented);
  // Where it begins is checked.
  ExpectDataLoss(GgufBuilder().Head(1, 0).Tensor("a", {256}, 11, 512).Data(128), "offset");
  ExpectDataLoss(
      GgufBuilder().Head(2, 0).Tensor("a", {16}, 0, 0).Tensor("b", {256}, 11, 32).Data(256),
      "where a ends");
}

TEST(GgufFile, RefusesBadAlignment) {
  ExpectDataLoss(GgufBuilder().Head(0, 1).Int("general.alignment", 0), "alignment");
  ExpectDataLoss(GgufBuilder().Head(0, 1).Int("general.alignment", 24), "alignment");
}

TEST(GgufFile, RefusesEveryTruncation) {
  const std::string path = TestDataPath("models/stories260K.gguf");
  COMET_REQUIRE_FILE(path);
  const std::string bytes = ReadBytes(path);
  const TempFolder folder;

  for (size_t part = 0; part < 64; ++part) {
    WriteBytes(folder.PathOf("m"), std::string_view(bytes).substr(0, bytes.size() * part / 64));

    const Status status = FloatSource::Open(folder.PathOf("m")).status();

    EXPECT_EQ(status.code(), StatusCode::kDataLoss) << part << "/64: " << status;
  }
}

// A flipped bit may leave a readable file; it must never crash, hang or take memory out of
// proportion.
TEST(GgufFile, SurvivesFlippedBitsInTheHeader) {
  const std::string path = TestDataPath("models/stories260K.gguf");
  COMET_REQUIRE_FILE(path);
  const std::string original = ReadBytes(path);
  const int header_bytes = 14176;  // Where the data section begins.
  const TempFolder folder;
  Random random(11);
  int num_refused = 0;

  for (int round = 0; round < 2000; ++round) {
    std::string bytes = original.substr(0, original.size());
    for (int flip = 0; flip <= round % 4; ++flip) {
      bytes[static_cast<size_t>(random.NextInt(header_bytes))] ^=
          static_cast<char>(1 << random.NextInt(8));
    }
    WriteBytes(folder.PathOf("m"), bytes);
    Result<std::unique_ptr<FloatSource>> source = FloatSource::Open(folder.PathOf("m"));
    if (!source.ok()) {
      ++num_refused;
      EXPECT_FALSE(source.status().message().empty());
    } else if (round % 16 == 0) {
      for (int i = 0; i < (*source)->config().num_layers; ++i) (void)(*source)->ReadLayer(i);
    }
  }

  EXPECT_GT(num_refused, 200);
}

}  // namespace
}  // namespace comet
