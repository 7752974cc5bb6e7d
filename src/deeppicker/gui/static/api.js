// Talks to the service. All values come from it: the page holds no logic of picking.

/** An answer that is no success, with what the service says about it. */
export class Refused extends Error {
  /** @param {number} status @param {string} message */
  constructor(status, message) {
    super(message);
    this.status = status;
  }
}

/** @param {string} path @param {RequestInit} [options] @returns {Promise<any>} */
async function ask(path, options) {
  const answer = await fetch(path, options);
  const body = await answer.json().catch(() => ({ error: answer.statusText }));
  if (!answer.ok) throw new Refused(answer.status, body.error);
  return body;
}

/** @param {string} path */
export const get = (path) => ask(`api/${path}`);

/** @param {string} path @param {object} body */
export const post = (path, body) =>
  ask(`api/${path}`, { method: "POST", headers: { "content-type": "application/json" }, body: JSON.stringify(body) });

/**
 * Ask only for the newest of many wishes: while one is under way, the others wait, and all but the last are dropped.
 * @template T, R
 * @param {(wish: T) => Promise<R>} work
 * @param {(result: R, wish: T) => void} show
 */
export function newest(work, show) {
  /** @type {T | undefined} */
  let waiting;
  let busy = false;
  /** @param {T} wish */
  return async function request(wish) {
    waiting = wish;
    if (busy) return;
    busy = true;
    try {
      while (waiting !== undefined) {
        const now = waiting;
        waiting = undefined;
        show(await work(now), now);
      }
    } finally {
      busy = false;
    }
  };
}
