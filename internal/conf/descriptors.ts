import { existsSync, readFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { createFileRegistry, type FileRegistry, fromBinary } from '@bufbuild/protobuf';
import { type FileDescriptorSet, FileDescriptorSetSchema } from '@bufbuild/protobuf/wkt';

let loaded: { readonly registry: FileRegistry; readonly set: FileDescriptorSet } | undefined;

/**
 * Every proto of the system: what `make api` left in `gen/descriptor.binpb`, read once. Found upwards of this module,
 * so that `dist/` and a TypeScript runner both have it.
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
