import assert from 'node:assert/strict';
import {
  type DeadLetter,
  type DeadLetterFilter,
  DeadLetterStore,
  DeadLetterUsecase,
  replayFields,
} from './dead-letter.js';

class Store extends DeadLetterStore {
  readonly letters = new Map<string, DeadLetter>();

  constructor(override readonly name: string) {
    super();
  }

  override async list({ includeResolved, limit }: DeadLetterFilter): Promise<readonly DeadLetter[]> {
    return [...this.letters.values()].filter((letter) => includeResolved || !letter.resolvedAt).slice(0, limit);
  }
  override async find(key: string): Promise<DeadLetter | undefined> {
    return this.letters.get(key);
  }
  override replay(key: string): Promise<string | undefined> {
    return this.resolve(key, 'replayed');
  }
  override drop(key: string, reason: string): Promise<string | undefined> {
    return this.resolve(key, `dropped: ${reason}`);
  }
  private async resolve(key: string, resolution: string): Promise<string | undefined> {
    const letter = this.letters.get(key);
    if (!letter || letter.resolvedAt) return undefined;
    this.letters.set(key, { ...letter, resolvedAt: new Date(), resolution });
    return resolution;
  }
  add(key: string): void {
    const fields = { origin: 'stream:seckill:1', messageId: '1-1', content: new Map(), reason: 'unknown product' };
    this.letters.set(key, {
      id: `${this.name}-${key}`,
      ...fields,
      createdAt: undefined,
      resolvedAt: undefined,
      resolution: '',
    });
  }
}

describe('Dead letters', () => {
  it('are found by the name of their store and their key', async () => {
    const [product, resource] = [new Store('product'), new Store('resource')];
    product.add('12');
    resource.add('12');
    const letters = new DeadLetterUsecase([product, resource]);
    assert.equal((await letters.find('resource-12'))?.id, 'resource-12');
    for (const id of ['resource-13', 'other-12', 'resource', '', 'product-12; DROP TABLE']) {
      assert.equal(await letters.find(id), undefined, id);
      assert.deepEqual(await letters.replay(id), { kind: 'not found' }, id);
    }
    const all = await letters.list({ includeResolved: false, limit: 10 });
    assert.deepEqual(
      all.map(({ id }) => id),
      ['product-12', 'resource-12'],
    );
  });

  it('are replayed or dropped once', async () => {
    const store = new Store('product');
    store.add('1');
    store.add('2');
    const letters = new DeadLetterUsecase([store]);
    assert.deepEqual(await letters.replay('product-1'), { kind: 'resolved', resolution: 'replayed' });
    assert.deepEqual(await letters.replay('product-1'), { kind: 'resolved before', resolution: 'replayed' });
    assert.deepEqual(await letters.drop('product-1', 'x'), { kind: 'resolved before', resolution: 'replayed' });
    assert.deepEqual(await letters.drop('product-2', 'a test'), { kind: 'resolved', resolution: 'dropped: a test' });
    assert.deepEqual(await letters.list({ includeResolved: false, limit: 10 }), []);
  });

  it('still wait when the consumer rejects them again during the replay', async () => {
    class Rejecting extends Store {
      override async replay(): Promise<undefined> {
        return undefined;
      }
    }
    const store = new Rejecting('resource');
    store.add('1');
    assert.deepEqual(await new DeadLetterUsecase([store]).replay('resource-1'), {
      kind: 'rejected again',
      reason: 'unknown product',
    });
  });

  it('keep their request number, or get one that depends on the letter alone', () => {
    const number = (fields: [string, string][]) =>
      replayFields({ number: 7n, fields: new Map(fields) }, false).get('req_id');
    assert.equal(number([['req_id', '4294967297']]), '4294967297');
    assert.equal(number([['uid', '1']]), '2147483655');
  });

  it('lose their epoch only while their sale is open', () => {
    const fields = new Map([
      ['uid', '1'],
      ['epoch', '3'],
    ]);
    assert.equal(replayFields({ number: 7n, fields }, true).has('epoch'), false);
    assert.equal(replayFields({ number: 7n, fields }, false).get('epoch'), '3');
  });
});
