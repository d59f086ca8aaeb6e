import assert from 'node:assert/strict';
import fc from 'fast-check';
import {
  type CouponValue,
  type FreightRule,
  type FullReduction,
  type LimitedPrice,
  PriceCalculator,
  type PricedLine,
  type PriceRequest,
  type Promotion,
  type QuotedCoupon,
  type Scope,
} from './price-calculator.js';

const calculator = new PriceCalculator();
const AT = new Date('2026-11-11T00:00:00Z');
const ALWAYS = { startsAt: new Date(0), endsAt: undefined };

function line(skuId: bigint, priceFen: bigint, quantity = 1): PricedLine {
  return { skuId, spuId: skuId / 10n, categoryId: skuId / 100n, priceFen, quantity };
}

function request(over: Partial<PriceRequest>): PriceRequest {
  return {
    lines: [],
    region: '310000',
    coupon: undefined,
    promotions: [],
    freightRules: [],
    at: AT,
    ...over,
  };
}

function coupon(value: CouponValue, over: Partial<QuotedCoupon> = {}): QuotedCoupon {
  return { id: 1n, name: 'coupon', scope: { kind: 'ALL' }, value, state: 'UNUSED', ...ALWAYS, ...over };
}

function reduction(id: bigint, scope: Scope, ...tiers: [bigint, bigint][]): FullReduction {
  return {
    kind: 'FULL_REDUCTION',
    id,
    name: `reduction ${id}`,
    scope,
    tiers: tiers.map(([thresholdFen, offFen]) => ({ thresholdFen, offFen })),
    ...ALWAYS,
  };
}

function limited(id: bigint, skuId: bigint, priceFen: bigint, unitsLeft?: number): LimitedPrice {
  return { kind: 'LIMITED_PRICE', id, name: `limited ${id}`, skuId, priceFen, unitsLeft, ...ALWAYS };
}

function flat(id: bigint, regionPrefix: string, feeFen: bigint, freeAboveFen?: bigint): FreightRule {
  return { id, regionPrefix, fee: { kind: 'FLAT', feeFen }, freeAboveFen };
}

describe('PriceCalculator', () => {
  it('adds up lines without any rule', () => {
    const quote = calculator.quote(request({ lines: [line(101n, 250n, 3), line(102n, 99n)] }));
    assert.equal(quote.totalFen, 849n);
    assert.equal(quote.amountFen, 849n);
    assert.deepEqual(quote.discounts, []);
  });

  it('applies a limited-time price to the units that the buyer may still have at it', () => {
    const quote = calculator.quote(request({ lines: [line(101n, 100n, 5)], promotions: [limited(1n, 101n, 60n, 2)] }));
    assert.equal(quote.promotionFen, 80n);
    assert.equal(quote.amountFen, 420n);
  });

  it('takes the limited-time price that saves most, and never one above the list price', () => {
    const promotions = [limited(1n, 101n, 90n), limited(2n, 101n, 50n, 1), limited(3n, 101n, 120n)];
    const quote = calculator.quote(request({ lines: [line(101n, 100n, 10)], promotions }));
    assert.deepEqual(
      quote.discounts.map((d) => [d.id, d.amountFen]),
      [[1n, 100n]],
    );
  });

  it('takes the highest tier that the goods reach after limited-time prices', () => {
    const promotions = [limited(1n, 101n, 90n), reduction(2n, { kind: 'ALL' }, [100n, 10n], [200n, 30n])];
    const quote = calculator.quote(request({ lines: [line(101n, 100n, 2)], promotions }));
    // 180 after the limited-time price: the tier of 200 is not reached.
    assert.deepEqual(
      quote.discounts.map((d) => [d.rule, d.amountFen]),
      [
        ['LIMITED_PRICE', 20n],
        ['FULL_REDUCTION', 10n],
      ],
    );
  });

  it('counts a line towards one full reduction only, the most specific one that reaches a tier', () => {
    const promotions = [
      reduction(1n, { kind: 'ALL' }, [100n, 5n]),
      reduction(2n, { kind: 'CATEGORY', ids: [1n] }, [100n, 20n]),
      reduction(3n, { kind: 'SPU', ids: [10n] }, [1_000n, 500n]),
    ];
    const quote = calculator.quote(request({ lines: [line(101n, 100n), line(205n, 60n)], promotions }));
    assert.deepEqual(
      quote.discounts.map((d) => [d.id, d.amountFen]),
      [[2n, 20n]],
    );
  });

  it('rounds a percentage half up once for the order and spreads it by the largest remainder', () => {
    const lines = [line(101n, 33n), line(102n, 33n), line(103n, 33n)];
    const quote = calculator.quote(
      request({ lines, coupon: coupon({ kind: 'PERCENT', percent: 50, capFen: undefined }) }),
    );
    assert.equal(quote.promotionFen, 50n);
    assert.deepEqual(
      quote.lines.map((l) => l.promotionFen),
      [17n, 17n, 16n],
    );
  });

  it('caps what a percentage takes off', () => {
    const value: CouponValue = { kind: 'PERCENT', percent: 100, capFen: 7n };
    assert.equal(calculator.quote(request({ lines: [line(101n, 50n)], coupon: coupon(value) })).amountFen, 43n);
  });

  it('never takes more off than the goods in scope cost', () => {
    const own = coupon({ kind: 'AMOUNT', offFen: 1_000n }, { scope: { kind: 'SKU', ids: [101n] } });
    const quote = calculator.quote(request({ lines: [line(101n, 50n), line(102n, 70n)], coupon: own }));
    assert.equal(quote.amountFen, 70n);
  });

  for (const [refusal, over] of [
    ['NOT_STARTED', { startsAt: new Date('2026-11-12') }],
    ['EXPIRED', { endsAt: AT }],
    ['HELD', { state: 'HELD' }],
    ['USED', { state: 'USED' }],
    ['EXPIRED', { state: 'EXPIRED' }],
    ['DISABLED', { state: 'DISABLED' }],
    ['NOTHING_IN_SCOPE', { scope: { kind: 'SPU', ids: [9_999n] } }],
    ['BELOW_THRESHOLD', { value: { kind: 'THRESHOLD', thresholdFen: 101n, offFen: 1n } }],
  ] as const satisfies [string, Partial<QuotedCoupon>][]) {
    it(`refuses a coupon with ${refusal} for ${Object.keys(over).join()} and quotes the price without it`, () => {
      const given = coupon({ kind: 'AMOUNT', offFen: 10n }, over);
      const quote = calculator.quote(request({ lines: [line(101n, 100n)], coupon: given }));
      assert.deepEqual(quote.coupon, { id: 1n, refusal, savedFen: 0n });
      assert.equal(quote.amountFen, 100n);
    });
  }

  it('refuses a coupon that costs more freight than it saves', () => {
    const quote = calculator.quote(
      request({
        lines: [line(101n, 100n)],
        coupon: coupon({ kind: 'AMOUNT', offFen: 1n }),
        freightRules: [flat(1n, '', 12n, 100n)],
      }),
    );
    assert.deepEqual(quote.coupon, { id: 1n, refusal: 'NO_BENEFIT', savedFen: 0n });
    assert.equal(quote.amountFen, 100n);
  });

  it('takes the freight rule with the longest region prefix, and none where no rule matches', () => {
    const freightRules = [flat(1n, '', 10n), flat(2n, '31', 5n), flat(3n, '3200', 99n)];
    const of = (region: string | undefined, rules = freightRules) =>
      calculator.quote(request({ lines: [line(101n, 1n)], region, freightRules: rules })).freightFen;
    assert.equal(of('310000'), 5n);
    assert.equal(of('440000'), 10n);
    assert.equal(of(undefined), 0n);
    assert.equal(of('440000', [flat(2n, '31', 5n)]), 0n);
  });

  it('charges freight by first and further units', () => {
    const fee = { kind: 'BY_UNITS', firstUnits: 2, firstFeeFen: 10n, furtherUnits: 3, furtherFeeFen: 4n } as const;
    const of = (quantity: number) =>
      calculator.quote(
        request({
          lines: [line(101n, 1n, quantity)],
          freightRules: [{ id: 1n, regionPrefix: '', fee, freeAboveFen: undefined }],
        }),
      ).freightFen;
    assert.deepEqual([1, 2, 3, 5, 6].map(of), [10n, 10n, 14n, 14n, 18n]);
  });

  it('looks at the goods after discounts to decide whether they travel free', () => {
    const freightRules = [flat(1n, '', 10n, 100n)];
    const lines = [line(101n, 110n)];
    assert.equal(calculator.quote(request({ lines, freightRules })).freightFen, 0n);
    const promotions = [reduction(1n, { kind: 'ALL' }, [100n, 20n])];
    assert.equal(calculator.quote(request({ lines, freightRules, promotions })).freightFen, 10n);
  });

  describe('for any request', () => {
    it('agrees with a naive calculation', () => {
      fc.assert(
        fc.property(anyRequest, (r) => {
          const { totalFen, freightFen, promotionFen, amountFen, lines } = calculator.quote(r);
          assert.deepEqual({ totalFen, freightFen, promotionFen, amountFen }, naiveQuote(r).parts);
          assert.deepEqual(new Map(lines.map((l) => [l.skuId, l.amountFen])), naiveQuote(r).lines);
        }),
        { numRuns: 500 },
      );
    });

    it('has parts that add up and are not negative', () => {
      fc.assert(
        fc.property(anyRequest, (r) => {
          const q = calculator.quote(r);
          const add = (amounts: readonly bigint[]) => amounts.reduce((a, b) => a + b, 0n);
          assert.equal(q.amountFen, q.totalFen + q.freightFen - q.promotionFen);
          assert.equal(add(q.lines.map((l) => l.totalFen)), q.totalFen);
          assert.equal(add(q.lines.map((l) => l.promotionFen)), q.promotionFen);
          assert.equal(add(q.discounts.map((d) => d.amountFen)), q.promotionFen);
          for (const d of q.discounts) assert.equal(add(d.lines.map((l) => l.amountFen)), d.amountFen);
          for (const l of q.lines) assert.ok(0n <= l.amountFen && l.amountFen <= l.totalFen);
          assert.ok(q.freightFen >= 0n && q.promotionFen >= 0n && q.amountFen >= 0n);
        }),
        { numRuns: 500 },
      );
    });

    it('never costs more with a coupon than without', () => {
      fc.assert(
        fc.property(anyRequest, (r) => {
          assert.ok(calculator.quote(r).amountFen <= calculator.quote({ ...r, coupon: undefined }).amountFen);
        }),
        { numRuns: 500 },
      );
    });

    it('never costs more with a coupon that takes off more', () => {
      fc.assert(
        fc.property(anyRequest, fen(3_000), fen(3_000), anyScope, (r, a, b, scope) => {
          const [less, more] = a < b ? [a, b] : [b, a];
          const costs = (offFen: bigint) =>
            calculator.quote({ ...r, freightRules: [], coupon: coupon({ kind: 'AMOUNT', offFen }, { scope }) })
              .amountFen;
          assert.ok(costs(more) <= costs(less));
        }),
        { numRuns: 300 },
      );
    });

    it('saves what it says with a coupon that applies, and nothing with one that does not', () => {
      fc.assert(
        fc.property(anyRequest, (r) => {
          const quote = calculator.quote(r);
          const without = calculator.quote({ ...r, coupon: undefined });
          const { refusal, savedFen = 0n } = quote.coupon ?? {};
          assert.equal(quote.amountFen, without.amountFen - savedFen);
          assert.equal(savedFen > 0n, r.coupon !== undefined && refusal === undefined);
          if (refusal !== undefined) assert.deepEqual({ ...quote, coupon: undefined }, without);
        }),
        { numRuns: 300 },
      );
    });

    it('does not depend on the order of lines and rules', () => {
      fc.assert(
        fc.property(anyRequest, (r) => {
          const turned = {
            ...r,
            lines: [...r.lines].reverse(),
            promotions: [...r.promotions].reverse(),
            freightRules: [...r.freightRules].reverse(),
          };
          assert.deepEqual(calculator.quote(turned), calculator.quote(r));
        }),
        { numRuns: 500 },
      );
    });
  });
});

const fen = (max: number) => fc.integer({ min: 0, max }).map(BigInt);
const id = fc.bigInt({ min: 100n, max: 219n });
const anyLine = fc.record({ skuId: id, priceFen: fen(5_000), quantity: fc.integer({ min: 1, max: 7 }) });
const anyScope: fc.Arbitrary<Scope> = fc.oneof(
  fc.constant({ kind: 'ALL' } as const),
  fc.record({ kind: fc.constant('CATEGORY' as const), ids: fc.array(fc.constantFrom(1n, 2n), { maxLength: 2 }) }),
  fc.record({ kind: fc.constant('SPU' as const), ids: fc.array(fc.bigInt({ min: 10n, max: 21n }), { maxLength: 6 }) }),
  fc.record({ kind: fc.constant('SKU' as const), ids: fc.array(id, { maxLength: 20 }) }),
);
const anyValue: fc.Arbitrary<CouponValue> = fc.oneof(
  fc.record({ kind: fc.constant('AMOUNT' as const), offFen: fen(3_000) }),
  fc.record({ kind: fc.constant('THRESHOLD' as const), thresholdFen: fen(9_000), offFen: fen(9_000) }),
  fc.record({
    kind: fc.constant('PERCENT' as const),
    percent: fc.integer({ min: 1, max: 100 }),
    capFen: fc.option(fen(4_000), { nil: undefined }),
  }),
);
const anyPromotion: fc.Arbitrary<Promotion> = fc.oneof(
  fc
    .record({ id: fen(50), skuId: id, priceFen: fen(5_000), left: fc.option(fc.nat(5), { nil: undefined }) })
    .map((p) => limited(p.id, p.skuId, p.priceFen, p.left)),
  fc
    .record({ id: fen(50), scope: anyScope, tiers: fc.array(fc.tuple(fen(20_000), fen(6_000)), { maxLength: 3 }) })
    .map((p) => reduction(p.id, p.scope, ...p.tiers)),
);
const anyFreight: fc.Arbitrary<FreightRule> = fc.record({
  id: fen(1_000_000),
  regionPrefix: fc.constantFrom('', '3', '31', '32', '310000'),
  fee: fc.oneof(
    fc.record({ kind: fc.constant('FLAT' as const), feeFen: fen(2_000) }),
    fc.record({
      kind: fc.constant('BY_UNITS' as const),
      firstUnits: fc.integer({ min: 1, max: 5 }),
      firstFeeFen: fen(1_000),
      furtherUnits: fc.integer({ min: 1, max: 3 }),
      furtherFeeFen: fen(500),
    }),
  ),
  freeAboveFen: fc.option(fen(20_000), { nil: undefined }),
});
const anyRequest: fc.Arbitrary<PriceRequest> = fc.record({
  lines: fc
    .uniqueArray(anyLine, { selector: (l) => l.skuId, minLength: 1, maxLength: 8 })
    .map((lines) => lines.map((l) => line(l.skuId, l.priceFen, l.quantity))),
  region: fc.constantFrom(undefined, '310000', '320000', '440000'),
  coupon: fc.option(
    fc
      .record({
        value: anyValue,
        scope: anyScope,
        // Mostly one that can be used.
        state: fc.constantFrom('UNUSED', 'UNUSED', 'UNUSED', 'UNUSED', 'HELD', 'USED', 'EXPIRED', 'DISABLED'),
        startsAt: fc.constantFrom(new Date(0), new Date(0), AT, new Date(AT.getTime() + 1)),
        endsAt: fc.constantFrom(undefined, undefined, new Date(AT.getTime() + 1), AT),
      })
      .map(({ value, ...over }) => coupon(value, over)),
    { nil: undefined },
  ),
  // Rules of one kind have different ids.
  promotions: fc.uniqueArray(anyPromotion, { selector: (p) => p.id, maxLength: 6 }),
  freightRules: fc.uniqueArray(anyFreight, { selector: (f) => f.id, maxLength: 4 }),
  at: fc.constant(AT),
});

/**
 * The same rules written the slow way: a discount is handed out fen by fen, each to the line whose share lags most
 * behind its due, and whole numbers of a common denominator stand in for fractions.
 */
function naiveQuote(r: PriceRequest) {
  const run = (withCoupon: boolean) => {
    const left = new Map(r.lines.map((l) => [l.skuId, l.priceFen * BigInt(l.quantity)]));
    const of = (l: PricedLine) => left.get(l.skuId) ?? 0n;
    const takeOff = (off: bigint, among: readonly PricedLine[]) => {
      const base = among.reduce((a, l) => a + of(l), 0n);
      const due = among.map((l) => ({ l, due: off * of(l), got: 0n })).sort((a, b) => (a.l.skuId < b.l.skuId ? -1 : 1));
      for (const d of due) while ((d.got + 1n) * base <= d.due) d.got += 1n;
      let rest = off - due.reduce((a, d) => a + d.got, 0n);
      while (rest > 0n) {
        const lags = due.map((d) => d.due - d.got * base);
        const most = lags.reduce((a, b) => (b > a ? b : a));
        const next = due[lags.indexOf(most)];
        assert.ok(next);
        next.got += 1n;
        rest -= 1n;
      }
      for (const d of due) left.set(d.l.skuId, of(d.l) - d.got);
    };
    for (const l of r.lines) {
      let best = 0n;
      for (const p of r.promotions) {
        if (p.kind !== 'LIMITED_PRICE' || p.skuId !== l.skuId) continue;
        let saved = 0n;
        for (let unit = 0; unit < l.quantity; unit++) {
          if (p.unitsLeft === undefined || unit < p.unitsLeft) saved += l.priceFen - p.priceFen;
        }
        if (saved > best) best = saved;
      }
      left.set(l.skuId, of(l) - best);
    }
    const inScope = (scope: Scope, l: PricedLine) =>
      scope.kind === 'ALL' ||
      scope.ids.some((i) => i === { CATEGORY: l.categoryId, SPU: l.spuId, SKU: l.skuId }[scope.kind]);
    const taken = new Set<bigint>();
    for (const kind of ['SKU', 'SPU', 'CATEGORY', 'ALL']) {
      const rules = r.promotions
        .filter((p): p is FullReduction => p.kind === 'FULL_REDUCTION' && p.scope.kind === kind)
        .sort((a, b) => (a.id < b.id ? -1 : 1));
      for (const rule of rules) {
        const among = r.lines.filter((l) => inScope(rule.scope, l) && !taken.has(l.skuId));
        const base = among.reduce((a, l) => a + of(l), 0n);
        let off = 0n;
        for (const t of rule.tiers) if (base >= t.thresholdFen && t.offFen > off) off = t.offFen;
        if (off > base) off = base;
        if (off === 0n) continue;
        takeOff(off, among);
        for (const l of among) taken.add(l.skuId);
      }
    }
    const runs = r.coupon && r.coupon.startsAt <= r.at && (r.coupon.endsAt === undefined || r.at < r.coupon.endsAt);
    if (withCoupon && r.coupon?.state === 'UNUSED' && runs) {
      const { scope, value } = r.coupon;
      const among = r.lines.filter((l) => inScope(scope, l));
      const base = among.reduce((a, l) => a + of(l), 0n);
      let off: bigint;
      if (value.kind === 'PERCENT') {
        const exact = base * BigInt(value.percent);
        off = exact / 100n + (exact % 100n >= 50n ? 1n : 0n);
        if (value.capFen !== undefined && off > value.capFen) off = value.capFen;
      } else {
        off = value.kind === 'THRESHOLD' && base < value.thresholdFen ? 0n : value.offFen;
      }
      if (off > base) off = base;
      if (off > 0n) takeOff(off, among);
    }
    const totalFen = r.lines.reduce((a, l) => a + l.priceFen * BigInt(l.quantity), 0n);
    const goodsFen = [...left.values()].reduce((a, b) => a + b, 0n);
    let freightFen = 0n;
    const [rule] = r.freightRules
      .filter((f) => r.region?.startsWith(f.regionPrefix))
      .sort((a, b) => b.regionPrefix.length - a.regionPrefix.length || (a.id < b.id ? -1 : 1));
    if (rule && !(rule.freeAboveFen !== undefined && goodsFen >= rule.freeAboveFen)) {
      if (rule.fee.kind === 'FLAT') freightFen = rule.fee.feeFen;
      else {
        freightFen = rule.fee.firstFeeFen;
        let units = r.lines.reduce((a, l) => a + l.quantity, 0) - rule.fee.firstUnits;
        for (; units > 0; units -= rule.fee.furtherUnits) freightFen += rule.fee.furtherFeeFen;
      }
    }
    const parts = { totalFen, freightFen, promotionFen: totalFen - goodsFen, amountFen: goodsFen + freightFen };
    return { parts, lines: left };
  };
  const without = run(false);
  const withCoupon = run(true);
  return withCoupon.parts.amountFen < without.parts.amountFen ? withCoupon : without;
}
