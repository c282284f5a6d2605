// pg-boss: `send`, `insert`, `fetch` and `complete`, and `work` for handlers.
//
// n at a time are batches of n, whose handlers run at once, fetched without a pause while they are
// full. A worker of single jobs pauses at least half a second between any two, so that is left out.

import { BODY, FEW, MANY, answer, batches, check, require } from "./answering.mjs";

const { PgBoss } = require("pg-boss");
const { Pool } = require("pg");

const pool = new Pool({ connectionString: process.argv[2], max: 1 });
const boss = new PgBoss({ connectionString: process.argv[2], supervise: false, schedule: false });
boss.on("error", console.error);
await boss.start();
await boss.createQueue("bench");

async function add(n, options = {}) {
  for (const some of batches(n, { data: BODY, ...options })) await boss.insert("bench", some);
}

async function waiting() {
  const { rows } = await pool.query(
    "SELECT FROM pgboss.job WHERE name = 'bench' AND state < 'completed'",
  );
  return rows.length;
}

// Forget what is finished, or everything.
async function empty(finished = false) {
  const only = finished ? "AND state >= 'completed'" : "";
  await pool.query(`DELETE FROM pgboss.job WHERE name = 'bench' ${only}`);
}

function read(jobs) {
  for (const job of jobs) check(job.data.text.length === BODY.text.length, "another payload");
}

async function drain(watch, batchSize) {
  let done = 0;
  await watch.running(async () => {
    for (;;) {
      const jobs = await boss.fetch("bench", { batchSize });
      if (jobs.length === 0) return;
      read(jobs);
      const { affected } = await boss.complete("bench", jobs.map((job) => job.id));
      check(affected === jobs.length, "fewer jobs than were completed");
      done += jobs.length;
    }
  });
  return done;
}

function drainBy(batchSize) {
  return async (watch, n) => {
    await add(n);
    check((await drain(watch, batchSize)) === n, "not every job was completed");
    await empty();
  };
}

function run(batchSize) {
  return async (watch, n) => {
    await add(n);
    let left = n;
    await watch.running(async () => {
      await new Promise((resolve) => {
        const handle = async (job) => read([job]);
        boss.work("bench", { batchSize, burstWhenBatchFull: true }, async (jobs) => {
          await Promise.all(jobs.map(handle));
          left -= jobs.length;
          if (left <= 0) resolve();
        });
      });
      await boss.offWork("bench", { wait: true });
    });
    check((await waiting()) === 0, "not every job was completed");
    await empty();
  };
}

const figures = {
  async "enqueue one"(watch, n) {
    await watch.running(async () => {
      for (let each = 0; each < n; each += 1) await boss.send("bench", BODY);
    });
    await empty();
  },
  async "enqueue 1000"(watch, n) {
    await watch.running(() => add(n));
    await empty();
  },
  "lease and archive one": drainBy(1),
  "drain by 100": drainBy(FEW),
  "drain by 500": drainBy(MANY),
  "run, batches of 100": run(FEW),
  "run, batches of 500": run(MANY),
  "run, 8 at a time": run(8),
  "run, 64 at a time": run(64),
  async fill(watch, n) {
    await empty(true);
    await watch.running(() => add(n));
  },
  async share(watch) {
    watch.extra.done = await drain(watch, MANY);
  },
  park: (watch, n) => watch.running(() => add(n, { startAfter: 86_400 })),
};

await answer(figures, async () => {
  await boss.stop();
  await pool.end();
});
