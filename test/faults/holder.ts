/** A process that takes the right to write to a SQLite file and keeps it until it is killed. */
import { Connection } from '../../adapters/sqlite/driver.ts'

const connection = new Connection(process.argv[2]!, { synchronous: 'FULL', busyMs: 5000 })
connection.exec('BEGIN IMMEDIATE')
process.send!('held')
setInterval(() => {}, 60_000)
