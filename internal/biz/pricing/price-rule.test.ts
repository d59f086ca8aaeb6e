import assert from 'node:assert/strict';
import { isInvalidArgument } from '../../../gen/common/v1/errors.js';
import type { KratosError } from '../../kratos/errors/error.js';
import type { CatalogRepo } from '../catalog/catalog.js';
import { type NewPromotion, type PriceRuleRepo, PriceRuleUsecase, type PromotionTerms } from './price-rule.js';

describe('A change of a promotion', () => {
  const reduction: PromotionTerms = {
    ...{ kind: 'FULL_REDUCTION', scope: { kind: 'ALL', ids: [] } },
    tiers: [{ thresholdFen: 100n, offFen: 10n }],
  };
  const limited: PromotionTerms = { kind: 'LIMITED_PRICE', skuId: 1n, priceFen: 5n, limitPerUser: 3 };
  const usecaseOf = (terms: PromotionTerms) => {
    const now = new Date();
    const stored = { id: 7n, version: 1n, createdAt: now, updatedAt: now };
    const current = { ...stored, name: 'p', enabled: true, startsAt: now, endsAt: undefined, terms };
    const repo: Partial<PriceRuleRepo> = {
      findPromotion: async () => current,
      updatePromotion: async (_id: bigint, _version: bigint, changed: NewPromotion) => ({ ...stored, ...changed }),
    };
    return new PriceRuleUsecase(repo as PriceRuleRepo, {} as CatalogRepo);
  };

  for (const [field, terms, patch] of [
    ['price_fen', reduction, { priceFen: 1n }],
    ['limit_per_user', reduction, { limitPerUser: 1 }],
    ['tiers', limited, { tiers: [] }],
  ] as const) {
    it(`names ${field} if the promotion is of a kind that has none`, async () => {
      await assert.rejects(usecaseOf(terms).updatePromotion(7n, 1n, patch), (err: KratosError) => {
        assert.ok(isInvalidArgument(err));
        assert.deepEqual(
          err.violations.map((v) => v.field),
          [field],
        );
        return true;
      });
    });
  }

  it('leaves the terms that it does not name', async () => {
    const tiers = [{ thresholdFen: 200n, offFen: 50n }];
    const change = async (terms: PromotionTerms, patch: object) =>
      (await usecaseOf(terms).updatePromotion(7n, 1n, { name: 'q', ...patch })).terms;
    assert.deepEqual(await change(reduction, {}), reduction);
    assert.deepEqual(await change(reduction, { tiers }), { ...reduction, tiers });
    assert.deepEqual(await change(limited, {}), limited);
    assert.deepEqual(await change(limited, { priceFen: 4n }), { ...limited, priceFen: 4n });
    assert.deepEqual(await change(limited, { limitPerUser: 2 }), { ...limited, limitPerUser: 2 });
    assert.deepEqual(await change(limited, { limitPerUser: 0 }), { ...limited, limitPerUser: undefined });
  });
});
