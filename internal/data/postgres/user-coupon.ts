import type { Page, PageRequest } from '../../biz/page.js';
import {
  type CouponHold,
  type CouponRequest,
  couponRequestKey,
  type NewUserCoupon,
  type UserCoupon,
  UserCouponRepo,
  type UserCouponState,
} from '../../biz/pricing/user-coupon.js';
import type { Transaction } from '../../biz/transaction.js';
import { int8s, texts, uuids } from './column.js';
import { COUPON_COLUMNS, type CouponRow, couponOf } from './coupon.js';
import type { Postgres, Statement } from './postgres.js';
import { PrimaryReads, type Reads } from './reads.js';

const STATE = `CASE WHEN u.status = 'UNUSED' AND c.ends_at <= clock_timestamp() THEN 'EXPIRED' ELSE u.status END`;
const COLUMNS = `u.id AS user_coupon_id, u.user_id, ${STATE} AS state, u.order_id, u.granted,
  u.created_at AS given_at, ${COUPON_COLUMNS}`;
const JOINED = 'user_coupons u JOIN coupons c ON c.id = u.coupon_id';

const FIND_ALL: Statement = {
  name: 'user_coupon_find_all',
  text: `SELECT ${COLUMNS} FROM ${JOINED} WHERE u.id = ANY ($1::bigint[])`,
};

const LOCK_ALL: Statement = {
  name: 'user_coupon_lock_all',
  text: `SELECT ${COLUMNS} FROM ${JOINED} WHERE u.id = ANY ($1::bigint[]) ORDER BY u.id FOR UPDATE OF u`,
};

const LIST: Statement = {
  name: 'user_coupon_list',
  text: `SELECT ${COLUMNS} FROM ${JOINED} WHERE u.user_id = $1 AND ($2::text IS NULL OR ${STATE} = $2)
    ORDER BY u.id DESC OFFSET $3 LIMIT $4`,
};

const COUNT: Statement = {
  name: 'user_coupon_count',
  text: `SELECT count(*) AS total FROM ${JOINED} WHERE u.user_id = $1 AND ($2::text IS NULL OR ${STATE} = $2)`,
};

const COUNT_CLAIMED: Statement = {
  name: 'user_coupon_count_claimed',
  text: `SELECT user_id, count(*)::int AS claimed FROM user_coupons
    WHERE coupon_id = $1 AND user_id = ANY ($2::uuid[]) AND NOT granted GROUP BY user_id`,
};

const FIND_BY_REQUESTS: Statement = {
  name: 'user_coupon_find_by_requests',
  text: `SELECT u.id, u.user_id, u.request_id FROM unnest($3::uuid[], $4::text[]) AS r(user_id, request_id)
    JOIN user_coupons u ON u.coupon_id = $1 AND u.granted = $2 AND u.user_id = r.user_id AND u.request_id = r.request_id`,
};

const INSERT: Statement = {
  name: 'user_coupon_insert',
  text: `INSERT INTO user_coupons (id, coupon_id, user_id, granted, request_id)
    SELECT id, coupon_id, user_id, granted = 1, request_id
    FROM unnest($1::bigint[], $2::bigint[], $3::uuid[], $4::bigint[], $5::text[])
      AS n(id, coupon_id, user_id, granted, request_id)`,
};

const HOLD: Statement = {
  name: 'user_coupon_hold',
  text: `UPDATE user_coupons u SET status = 'HELD', order_id = h.order_id, updated_at = now()
    FROM unnest($1::bigint[], $2::bigint[]) AS h(id, order_id) WHERE u.id = h.id AND u.status = 'UNUSED'`,
};

const RELEASE: Statement = {
  name: 'user_coupon_release',
  text: `UPDATE user_coupons SET status = 'UNUSED', order_id = NULL, updated_at = now()
    WHERE id = ANY (ARRAY(
      SELECT id FROM user_coupons WHERE order_id = ANY ($1::bigint[]) AND status = 'HELD' ORDER BY id FOR UPDATE))`,
};

const USE: Statement = {
  name: 'user_coupon_use',
  text: `UPDATE user_coupons SET status = 'USED', updated_at = now()
    WHERE order_id = ANY ($1::bigint[]) AND status = 'HELD'`,
};

const RESTORE: Statement = {
  name: 'user_coupon_restore',
  text: `UPDATE user_coupons u SET status = 'UNUSED', order_id = NULL, updated_at = now()
    FROM coupons c WHERE c.id = u.coupon_id AND u.order_id = $1 AND u.status = 'USED'
      AND (c.ends_at IS NULL OR c.ends_at > clock_timestamp())`,
};

export class PgUserCouponRepo extends UserCouponRepo {
  constructor(
    private readonly db: Postgres,
    private readonly reads: Reads = new PrimaryReads(db),
  ) {
    super();
  }

  override async findAll(ids: readonly bigint[]): Promise<readonly UserCoupon[]> {
    if (ids.length === 0) return [];
    return (await this.db.query<UserCouponRow>(FIND_ALL, [int8s(ids, (id) => id)])).rows.map(userCouponOf);
  }

  override async lockAll(tx: Transaction, ids: readonly bigint[]): Promise<readonly UserCoupon[]> {
    return (await this.db.query<UserCouponRow>(LOCK_ALL, [int8s(ids, (id) => id)], tx)).rows.map(userCouponOf);
  }

  override async list(
    userId: string,
    state: UserCouponState | undefined,
    { offset, limit }: PageRequest,
  ): Promise<Page<UserCoupon>> {
    const [list, count] = await Promise.all([
      this.reads.query<UserCouponRow>(userId, LIST, [userId, state ?? null, offset, limit]),
      this.reads.query<{ total: bigint }>(userId, COUNT, [userId, state ?? null]),
    ]);
    return { items: list.rows.map(userCouponOf), total: count.rows[0]?.total ?? 0n };
  }

  override async countClaimed(
    tx: Transaction,
    couponId: bigint,
    userIds: readonly string[],
  ): Promise<ReadonlyMap<string, number>> {
    const values = [couponId, uuids(userIds, (id) => id)];
    const { rows } = await this.db.query<{ user_id: string; claimed: number }>(COUNT_CLAIMED, values, tx);
    return new Map(rows.map((row) => [row.user_id, row.claimed]));
  }

  override async findByRequests(
    tx: Transaction,
    { couponId, granted }: Pick<NewUserCoupon, 'couponId' | 'granted'>,
    requests: readonly CouponRequest[],
  ): Promise<Map<string, bigint>> {
    const asked = requests.filter((r) => r.requestId !== '');
    if (asked.length === 0) return new Map();
    const { rows } = await this.db.query<{ id: bigint; user_id: string; request_id: string }>(
      FIND_BY_REQUESTS,
      [couponId, granted, uuids(asked, (r) => r.userId), texts(asked, (r) => r.requestId)],
      tx,
    );
    return new Map(
      rows.map(({ id, user_id: userId, request_id: requestId }) => [couponRequestKey({ userId, requestId }) ?? '', id]),
    );
  }

  override async insert(tx: Transaction, coupons: readonly NewUserCoupon[]): Promise<void> {
    await this.db.query(
      INSERT,
      [
        int8s(coupons, (c) => c.id),
        int8s(coupons, (c) => c.couponId),
        uuids(coupons, (c) => c.userId),
        int8s(coupons, (c) => (c.granted ? 1n : 0n)),
        texts(coupons, (c) => c.requestId),
      ],
      tx,
    );
    this.db.writesFor(
      tx,
      coupons.map((c) => c.userId),
    );
  }

  override async hold(tx: Transaction, holds: readonly CouponHold[]): Promise<void> {
    const values = [int8s(holds, (h) => h.id), int8s(holds, (h) => h.orderId)];
    const { rowCount } = await this.db.query(HOLD, values, tx);
    if (rowCount !== holds.length) throw new Error(`only ${rowCount} of ${holds.length} coupons could be held`);
  }

  override async release(tx: Transaction, orderIds: readonly bigint[]): Promise<void> {
    await this.db.query(RELEASE, [int8s(orderIds, (id) => id)], tx);
  }

  override async use(tx: Transaction, orderIds: readonly bigint[]): Promise<void> {
    await this.db.query(USE, [int8s(orderIds, (id) => id)], tx);
  }

  override async restore(tx: Transaction, orderId: bigint): Promise<void> {
    await this.db.query(RESTORE, [orderId], tx);
  }
}

interface UserCouponRow extends CouponRow {
  user_coupon_id: bigint;
  user_id: string;
  state: UserCouponState;
  order_id: bigint | null;
  granted: boolean;
  given_at: Date;
}

function userCouponOf(row: UserCouponRow): UserCoupon {
  const { user_coupon_id: id, user_id: userId, state, order_id: orderId, granted, given_at: createdAt } = row;
  return { id, userId, coupon: couponOf(row), state, orderId: orderId ?? undefined, granted, createdAt };
}
