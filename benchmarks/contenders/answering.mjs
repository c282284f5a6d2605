// What answering.py is for contenders in Python: it answers questions on standard input.

import { createRequire } from "node:module";
import { createInterface } from "node:readline";

// The payload of every message: 200 bytes of JSON.
export const BODY = { text: "x".repeat(188) };

// Messages taken at once: by default, and as many as the longest line of a contender.
export const FEW = 100;
export const MANY = 500;

// Packages are those beside the Node that runs this, which the environment of a peer brings.
export const require = createRequire(process.execPath);

// Times what a figure says is to be timed.
export class Watch {
  seconds = 0;
  extra = {};

  async running(act) {
    const begun = performance.now();
    try {
      return await act();
    } finally {
      this.seconds += (performance.now() - begun) / 1000;
    }
  }
}

// Answer until standard input ends. The first line says which figures there are.
export async function answer(figures, close) {
  say({ figures: Object.keys(figures).sort() });
  for await (const line of createInterface({ input: process.stdin })) {
    const question = JSON.parse(line);
    const watch = new Watch();
    try {
      await figures[question.figure](watch, question.n);
      say({ seconds: watch.seconds, ...watch.extra });
    } catch (error) {
      say({ error: String(error?.stack ?? error) });
    }
  }
  await close();
}

// Hand out what fills n places in batches of at most 1000.
export function* batches(n, item) {
  for (let first = 0; first < n; first += 1000) {
    yield Array(Math.min(n - first, 1000)).fill(item);
  }
}

// Fail a figure whose outcome is not what it must be.
export function check(holds, what) {
  if (!holds) throw new Error(what);
}

function say(what) {
  process.stdout.write(JSON.stringify(what) + "\n");
}
