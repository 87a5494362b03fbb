#include "wal/plugin_options.h"

#include "proto/relation.h"

namespace bitacora::wal {

std::uint32_t proto_version_for(int server_version) {
  if (server_version >= 160000) return 4;
  if (server_version >= 150000) return 3;
  return 2;  // 14, the oldest we accept
}

// publication_names is a list of SQL identifiers, hence the quotes inside the literal.
PluginOptions plugin_options(int server_version, const std::string& publication, bool binary,
                             OriginPolicy origins) {
  PluginOptions options{{"proto_version", std::to_string(proto_version_for(server_version))},
                        {"publication_names", proto::sql_identifier(publication)},
                        {"binary", binary ? "true" : "false"}};
  if (origins == OriginPolicy::kNone && server_version >= 160000)
    options.emplace_back("origin", "none");
  return options;
}

}  // namespace bitacora::wal
