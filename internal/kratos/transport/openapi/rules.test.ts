import assert from 'node:assert/strict';
import type { DescField } from '@bufbuild/protobuf';
import { libraryRegistry } from '../transcoder/testdata/library.js';
import { narrow } from './rules.js';

describe('OpenAPI schemas of fields', () => {
  const everything = libraryRegistry().getMessage('transcoder.test.v1.Everything');
  const field = (name: string): DescField => {
    const found = everything?.fields.find((f) => f.name === name);
    assert.ok(found, name);
    return found;
  };

  it('exclude the values of not_in for text and for numbers of both widths', () => {
    assert.deepEqual(narrow({ type: 'string' }, field('string_value'), { string: { notIn: ['A', 'B'] } }), {
      type: 'string',
      not: { enum: ['A', 'B'] },
    });
    assert.deepEqual(narrow({ type: 'integer' }, field('int32_value'), { int32: { notIn: [5] } }), {
      type: 'integer',
      not: { enum: [5] },
    });
    assert.deepEqual(narrow({ type: 'string' }, field('int64_value'), { int64: { notIn: ['5'] } }), {
      type: 'string',
      not: { enum: ['5'] },
    });
  });

  it('exclude nothing without not_in', () => {
    assert.deepEqual(narrow({ type: 'integer' }, field('int32_value'), { int32: { lte: 5 } }), {
      type: 'integer',
      maximum: 5,
    });
    assert.deepEqual(narrow({ type: 'string' }, field('int64_value'), { int64: { gt: '0' } }), {
      type: 'string',
      pattern: '^[1-9][0-9]{0,18}$',
      description: 'Greater than 0.',
    });
  });

  it('list the names of an enum that in and not_in leave', () => {
    const names = everything?.fields.find((f) => f.name === 'enum_value')?.enum?.values ?? [];
    const all = names.map((v) => v.name);
    assert.ok(all.length > 2);
    const schema = { type: 'string' };
    const listed = (rules: { in?: number[]; notIn?: number[]; const?: number }) =>
      narrow(schema, field('enum_value'), { enum: rules }).enum;
    assert.deepEqual(listed({ notIn: [0] }), all.slice(1));
    assert.deepEqual(listed({ in: [0, 1] }), all.slice(0, 2));
    assert.deepEqual(listed({ in: [0, 1], notIn: [0] }), [all[1]]);
    assert.deepEqual(listed({ const: 1 }), [all[1]]);
    assert.equal(listed({}), undefined);
  });
});
