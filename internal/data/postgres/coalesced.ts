/**
 * A question that many ask. Callers that ask while it is being answered share the next answer, which is begun after all of them
 * have asked: what they know to have happened before, the answer shows.
 */
export class Coalesced<T> {
  private running: Promise<unknown> | undefined;
  private next: Promise<T> | undefined;

  constructor(private readonly question: () => Promise<T>) {}

  ask(): Promise<T> {
    if (this.running === undefined) return this.begin();
    this.next ??= this.running.then(() => {
      this.next = undefined;
      return this.begin();
    });
    return this.next;
  }

  private begin(): Promise<T> {
    const answer = this.question();
    const running = answer
      .catch(() => {})
      .then(() => {
        if (this.running === running) this.running = undefined;
      });
    this.running = running;
    return answer;
  }
}
