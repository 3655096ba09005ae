export * from '../../server/demo/visitor.ts'
