import type {
  DescEnum,
  DescEnumValue,
  DescField,
  DescFile,
  DescMessage,
  DescMethod,
  DescService,
} from '@bufbuild/protobuf';

type Commented = DescFile | DescMessage | DescEnum | DescEnumValue | DescField | DescService | DescMethod;

/** The leading comment of a declaration, with lines joined to paragraphs; empty if there is none. */
export function commentOf(desc: Commented): string {
  const file = desc.kind === 'file' ? desc : fileOf(desc);
  const text = commentsOf(file).get(pathOf(desc).join()) ?? '';
  return text
    .split(/\n[ \t]*\n/)
    .map((paragraph) => paragraph.replace(/\s+/g, ' ').trim())
    .filter((paragraph) => paragraph !== '')
    .join('\n\n');
}

const known = new WeakMap<DescFile, ReadonlyMap<string, string>>();

function commentsOf(file: DescFile): ReadonlyMap<string, string> {
  const found = known.get(file);
  if (found) return found;
  const comments = new Map<string, string>();
  for (const { path, leadingComments } of file.proto.sourceCodeInfo?.location ?? []) {
    if (leadingComments) comments.set(path.join(), leadingComments);
  }
  known.set(file, comments);
  return comments;
}

function fileOf(desc: Exclude<Commented, DescFile>): DescFile {
  return 'file' in desc ? desc.file : desc.parent.file;
}

/** The path of a declaration in descriptor.proto: field numbers and indexes from the file down. A file's comment is that of
 * its package. */
function pathOf(desc: Commented): number[] {
  switch (desc.kind) {
    case 'file':
      return [2];
    case 'message':
      return desc.parent
        ? [...pathOf(desc.parent), 3, desc.parent.proto.nestedType.indexOf(desc.proto)]
        : [4, desc.file.proto.messageType.indexOf(desc.proto)];
    case 'enum':
      return desc.parent
        ? [...pathOf(desc.parent), 4, desc.parent.proto.enumType.indexOf(desc.proto)]
        : [5, desc.file.proto.enumType.indexOf(desc.proto)];
    case 'enum_value':
      return [...pathOf(desc.parent), 2, desc.parent.proto.value.indexOf(desc.proto)];
    case 'field':
      return [...pathOf(desc.parent), 2, desc.parent.proto.field.indexOf(desc.proto)];
    case 'service':
      return [6, desc.file.proto.service.indexOf(desc.proto)];
    case 'rpc':
      return [...pathOf(desc.parent), 2, desc.parent.proto.method.indexOf(desc.proto)];
  }
}
