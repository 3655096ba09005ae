/** The door of the server: open a house, start it. */
export { createApp, type Running, startServer } from './app.ts'
export { type Config, ConfigError, loadConfig } from './config.ts'
export { type House, type Metric, openHouse } from './open.ts'
export * from './stores.ts'
