import assert from 'node:assert/strict';
import { isInvalidArgument } from '../../gen/common/v1/errors.js';
import { patchOf } from './update-mask.js';

interface Patch {
  readonly title?: string;
  readonly images?: readonly string[];
}

describe('An update mask', () => {
  const patch = (mask: string[] | undefined, title: string | undefined, images: readonly string[]) =>
    patchOf<Patch>(mask, {
      title: { path: 'title', given: title },
      images: { path: 'main_images', given: images.length > 0 ? images : undefined, cleared: [] },
    });

  for (const mask of [undefined, []]) {
    it(`that is ${mask ? 'empty' : 'absent'} updates the fields that are given`, () => {
      assert.deepEqual(patch(mask, 'a', []), { title: 'a' });
      assert.deepEqual(patch(mask, undefined, ['x']), { images: ['x'] });
    });
  }

  it('updates the fields that it lists, and no others', () => {
    assert.deepEqual(patch(['main_images'], 'a', ['x']), { images: ['x'] });
  });

  it('clears a listed list that has no items', () => {
    assert.deepEqual(patch(['title', 'main_images'], 'a', []), { title: 'a', images: [] });
  });

  it('may list the id and the version, which an inferred mask does', () => {
    assert.deepEqual(patch(['version', 'id', 'title'], 'a', ['x']), { title: 'a' });
  });

  for (const [mask, title] of [
    [['title'], undefined],
    [['stock'], 'a'],
  ] as const) {
    it(`is rejected if it lists ${mask[0]}, which ${title ? 'cannot be updated' : 'has no value'}`, () => {
      assert.throws(
        () => patch([...mask], title, []),
        (err) => isInvalidArgument(err) && err.violations[0]?.field === 'update_mask',
      );
    });
  }
});
