import { existsSync, readFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { createFileRegistry, type FileRegistry, fromBinary } from '@bufbuild/protobuf';
import { type FileDescriptorSet, FileDescriptorSetSchema } from '@bufbuild/protobuf/wkt';

let loaded: { readonly registry: FileRegistry; readonly set: FileDescriptorSet } | undefined;

/**
 * The descriptors of every proto, from `gen/descriptor.binpb`, which `make api` writes. Read once. The file is looked
 * up in the parents of this module, so that both `dist/` and a TypeScript runner find it.
 */
export function loadDescriptors(): { readonly registry: FileRegistry; readonly set: FileDescriptorSet } {
  if (loaded) return loaded;
  let dir = dirname(fileURLToPath(import.meta.url));
  let path = join(dir, 'gen', 'descriptor.binpb');
  while (!existsSync(path)) {
    const up = dirname(dir);
    if (up === dir) throw new Error('gen/descriptor.binpb is missing: run make build');
    dir = up;
    path = join(dir, 'gen', 'descriptor.binpb');
  }
  const set = fromBinary(FileDescriptorSetSchema, readFileSync(path));
  loaded = { registry: createFileRegistry(set), set };
  return loaded;
}
