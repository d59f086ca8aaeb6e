/** Who makes a call. An application narrows `role` to the roles that it has. */
export interface Identity {
  readonly role: string;
  /** The user that the call acts for; undefined for callers that act for none. */
  readonly userId: string | undefined;
}

/** A caller that presents no credentials. */
export const ANONYMOUS: Identity = { role: 'ANONYMOUS', userId: undefined };
