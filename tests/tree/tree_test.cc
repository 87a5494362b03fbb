#include <gtest/gtest.h>

#include <algorithm>
#include <string>
#include <vector>

#include "tests/tree/tree_rules.h"

namespace bitacora::tree {
namespace {

TEST(Tree, KeepsItsRules) {
  const auto tree = read_tree(BITACORA_SOURCE_DIR);
  ASSERT_TRUE(tree.contains("CMakeLists.txt")) << "not the source tree: " << BITACORA_SOURCE_DIR;
  ASSERT_TRUE(tree.contains("tests/tree/tree_test.cc"));
  for (const auto& violation : violations(tree)) ADD_FAILURE() << violation.text();
}

// A tree in which every rule holds; each case below breaks one.
SourceTree tidy_tree() {
  return {
      {"README.md",
       "| `base/lsn.h` | positions |\n`./check`, `base/`, `base/lsn.{h,cc}`\n"
       "no paths: `16/B374D848`, `/metrics`, `build/release/bitacora`, `a * b/c.h`, `write/flush`\n"
       "```\n`gone/in_a_block.h`\n```\n"},
      {"check", "#!/usr/bin/env bash\n"},
      {"base/CMakeLists.txt", "bitacora_library(base\n  SOURCES lsn.cc)\n"},
      {"base/lsn.h", "// Positions.\n#pragma once\n#include <vector>\n"},
      {"base/lsn.cc", "#include \"base/lsn.h\"\n"},
      {"proto/CMakeLists.txt",
       "add_library(bitacora_wire STATIC x)\n"
       "target_link_libraries(bitacora_wire PUBLIC PkgConfig::GRPC)\n"
       "bitacora_library(proto SOURCES row.cc DEPENDS bitacora_base bitacora_wire)\n"},
      {"proto/row.cc", "#include \"base/lsn.h\"\n"},
      {"wal/CMakeLists.txt",
       "# not bitacora_apply\n"
       "bitacora_library(wal SOURCES slot.cc DEPENDS bitacora_proto PkgConfig::LIBPQ)\n"},
      {"wal/slot.cc", "#include <libpq-fe.h>\n#include \"proto/row.h\"\n"},
      {"apply/CMakeLists.txt",
       "bitacora_library(apply SOURCES checkpoint.cc PRIVATE_DEPENDS PkgConfig::LMDB)\n"},
      {"apply/checkpoint.cc", "#include <lmdb.h>\n"},
      {"engine/CMakeLists.txt", "bitacora_library(engine SOURCES a.cc DEPENDS bitacora_wal)\n"},
      {"engine/sender.cc", "#include \"wal/slot.h\"\n"},
      {"tests/wal/slot_test.cc",
       "#include <pqxx/pqxx>\n#include \"engine/sender.h\"\n"
       "TEST_F(Slot,\n       IsMade) {}\nTABLE_LIFE(Rows, rows)\n"},
      {"tests/FAILURES.md", "`Slot.IsMade` `Rows.Live` `Rows.Backlog` `README.md` `base/lsn.h`\n"},
  };
}

std::vector<std::string> texts(const SourceTree& tree) {
  std::vector<std::string> all;
  for (const auto& violation : violations(tree)) all.push_back(violation.text());
  return all;
}

TEST(TreeRules, ATidyTreeBreaksNone) { EXPECT_EQ(texts(tidy_tree()), std::vector<std::string>{}); }

TEST(TreeRules, EachFires) {
  const std::string unfinished =
      "TO"
      "DO";
  struct Case {
    std::string name;
    std::string file;
    std::string content;
    std::string expected;
  };
  const std::vector<Case> cases{
      {"upward include", "base/lsn.cc", "\n#include \"proto/row.h\"\n",
       "base/lsn.cc:2: base/ may depend on base only, not on proto/"},
      {"sideways include", "wal/slot.cc",
       "#include <libpq-fe.h>\n#include \"proto/row.h\"\n#  include <apply/checkpoint.h>\n",
       "wal/slot.cc:3: wal/ may depend on base, proto, wal only, not on apply/"},
      {"production includes tests", "engine/sender.cc",
       "#include \"wal/slot.h\"\n#include \"tests/postgres/pair.h\"\n",
       "engine/sender.cc:2: engine/ may depend on apply, base, engine, proto, transport, wal only, "
       "not on tests/"},
      {"include not from the root", "base/lsn.cc", "#include \"lsn.h\"\n",
       "base/lsn.cc:1: an include of our own is spelled from the root: \"folder/file.h\""},
      {"libpq in the engine", "engine/sender.cc",
       "#include \"wal/slot.h\"\n#include <libpq-fe.h>\n",
       "engine/sender.cc:2: PkgConfig::LIBPQ is for apply, wal only"},
      {"libpqxx in the engine", "engine/doctor.cc", "#include <pqxx/pqxx>\n",
       "engine/doctor.cc:1: PkgConfig::LIBPQXX is for apply, wal only"},
      {"LMDB outside apply", "base/store.cc", "#include <lmdb.h>\n",
       "base/store.cc:1: PkgConfig::LMDB is for apply only"},
      {"zstd outside transport", "wal/packed.cc", "#include <zstd.h>\n",
       "wal/packed.cc:1: PkgConfig::ZSTD is for transport only"},
      {"gRPC outside transport", "engine/server.cc", "#include <grpcpp/grpcpp.h>\n",
       "engine/server.cc:1: PkgConfig::GRPC is for transport only"},
      {"sideways library", "wal/CMakeLists.txt",
       "bitacora_library(wal DEPENDS bitacora_proto PkgConfig::LIBPQ\n  bitacora_apply)\n",
       "wal/CMakeLists.txt:2: wal/ may depend on base, proto, wal only, not on apply/"},
      {"package of another folder", "wal/CMakeLists.txt",
       "bitacora_library(wal DEPENDS bitacora_proto PkgConfig::LIBPQ PkgConfig::LMDB)\n",
       "wal/CMakeLists.txt:1: PkgConfig::LMDB is for apply only"},
      {"used, not named", "wal/CMakeLists.txt", "bitacora_library(wal DEPENDS bitacora_proto)\n",
       "wal/slot.cc:1: PkgConfig::LIBPQ is used here, but wal/CMakeLists.txt does not name it"},
      {"named, not used", "wal/CMakeLists.txt",
       "bitacora_library(wal DEPENDS bitacora_proto PkgConfig::LIBPQ bitacora_base)\n",
       "wal/CMakeLists.txt:1: base is named, but nothing here includes it"},
      {"long file", "base/lsn.cc", std::string(501, '\n'),
       "base/lsn.cc:501: a file has at most 500 lines"},
      {"empty name", "base/string_utils.cc", "",
       "base/string_utils.cc:1: a file is one noun of the field, not \"utils\""},
      {"empty folder name", "engine/common/a.cc", "",
       "engine/common/a.cc:1: a file is one noun of the field, not \"common\""},
      {"unfinished", "base/lsn.cc", "\n// " + unfinished + "(me): later\n",
       "base/lsn.cc:2: no " + unfinished + " in the tree"},
      {"unfinished script", "check", "# " + unfinished + "\n",
       "check:1: no " + unfinished + " in the tree"},
      {"header without comment", "base/lsn.h", "#pragma once\n// Late.\n",
       "base/lsn.h:1: a header starts with a comment that says what it is for"},
      {"header without pragma", "base/lsn.h", "// Positions.\n#ifndef X\n",
       "base/lsn.h:1: a header has #pragma once"},
      {"README names what is gone", "README.md", "\nsee `base/gone.h` and `./check`\n",
       "README.md:2: base/gone.h does not exist"},
      {"README misspells a folder", "README.md", "`bsae/lsn.h`\n",
       "README.md:1: bsae/lsn.h does not exist"},
      {"README misspells one of two", "README.md", "`base/lsn.{h,cpp}`\n",
       "README.md:1: base/lsn.cpp does not exist"},
      {"a test that is promised", "tests/FAILURES.md", "\n`Slot.IsMade`, `Slot.IsDropped`\n",
       "tests/FAILURES.md:2: there is no test Slot.IsDropped"},
      {"README names a script that is gone", "README.md", "run `./demo`\n",
       "README.md:1: ./demo does not exist"},
  };
  for (const auto& c : cases) {
    SCOPED_TRACE(c.name);
    auto tree = tidy_tree();
    tree[c.file] = c.content;
    const auto found = texts(tree);
    EXPECT_EQ(std::count(found.begin(), found.end(), c.expected), 1)
        << "expected: " << c.expected << "\nfound: " << testing::PrintToString(found);
  }
}

}  // namespace
}  // namespace bitacora::tree
