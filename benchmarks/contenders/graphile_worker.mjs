// Graphile Worker: one job for each message, its worker run until the queue is empty.
//
// Batching is as its guide to performance has it: a local queue, and jobs completed together.
// Jobs can only be run, so there is no figure for leasing and acknowledging by hand. A job that was
// run is deleted: nothing is archived.

import { BODY, MANY, answer, batches, check, require } from "./answering.mjs";

const { Logger, makeWorkerUtils, runOnce } = require("graphile-worker");
const { Pool } = require("pg");

const SHARE = 24; // what its own benchmarks run at a time
const logger = new Logger(() => () => {});

const pool = new Pool({ connectionString: process.argv[2], max: 10 });
pool.on("error", console.error);
pool.on("connect", (client) => client.on("error", console.error));
const utils = await makeWorkerUtils({ pgPool: pool, logger });
await utils.migrate();

async function empty() {
  await pool.query("TRUNCATE graphile_worker._private_jobs");
}

async function add(n, spec = {}) {
  for (const some of batches(n, { identifier: "work", payload: BODY, ...spec })) {
    check((await utils.addJobs(some)).length === some.length, "fewer jobs than were added");
  }
}

// Run jobs until there are none that are due; gives how many.
async function drain(watch, concurrentJobs) {
  let done = 0;
  const work = (payload) => {
    check(payload.text.length === BODY.text.length, "another payload");
    done += 1;
  };
  const preset = {
    worker: { concurrentJobs, localQueue: { size: MANY }, completeJobBatchDelay: 0 },
  };
  await watch.running(() =>
    runOnce({ pgPool: pool, logger, preset, noHandleSignals: true, taskList: { work } }),
  );
  return done;
}

function run(concurrentJobs) {
  return async (watch, n) => {
    await add(n);
    check((await drain(watch, concurrentJobs)) === n, "not every job was run");
    const { rows } = await pool.query("SELECT FROM graphile_worker._private_jobs");
    check(rows.length === 0, "jobs that were run are still there");
  };
}

const figures = {
  async "enqueue one"(watch, n) {
    await watch.running(async () => {
      for (let each = 0; each < n; each += 1) await utils.addJob("work", BODY);
    });
    await empty();
  },
  async "enqueue 1000"(watch, n) {
    await watch.running(() => add(n));
    await empty();
  },
  "run, 1 at a time": run(1),
  "run, 8 at a time": run(8),
  "run, 64 at a time": run(64),
  fill: (watch, n) => watch.running(() => add(n)),
  async share(watch) {
    watch.extra.done = await drain(watch, SHARE);
  },
  park: (watch, n) => watch.running(() => add(n, { runAt: new Date(Date.now() + 86_400_000) })),
};

await answer(figures, async () => {
  await utils.release();
  await pool.end();
});
