/** `apply`: brings people, companies, clients and APIs to what a file says. All or nothing. */
export { applyPlan, untilItHolds } from './apply.ts'
export { entryOf, type Section } from './entry.ts'
export { SeedError } from './error.ts'
export { type Plan, type PlanOptions, planSeed } from './plan.ts'
export { parseSeed, readSecret, readSeed } from './read.ts'
export { SEED_KEYS, type Seed } from './schema.ts'
