import de.bwaldvogel.mongo.*;
import de.bwaldvogel.mongo.backend.memory.MemoryBackend;
import de.bwaldvogel.mongo.bson.Document;
import de.bwaldvogel.mongo.wire.message.MongoMessage;
import io.netty.channel.Channel;
import java.lang.reflect.*;
import java.time.Instant;
import java.util.*;
import java.util.concurrent.*;

/**
 * mongo-java-server behind the wire version and the few commands that current drivers ask for, with a TTL sweep.
 *
 * Argument: the port (0: a free one). Everything is in memory.
 * Prints the port once it listens. Ends when its standard input ends, so it never outlives the tests that started it.
 *
 * What it keeps: single-document operations are atomic, `_id` and other unique indexes hold, TTL by sweep.
 * What it is not: it has no replica set, so majority, read concerns and retried writes are accepted and mean nothing;
 * no transactions, sessions, sharding, pipeline updates or collation; indexes that are not unique do not exist in it,
 * partial ones count as full ones; dropping an index drops those of the same name elsewhere.
 */
public class MongoStandIn {
  record Ttl(String db, String coll, String field, long secs) {}

  public static void main(String[] a) throws Exception {
    MongoBackend real = new MemoryBackend();
    // The library answers wire version 8 at most; current drivers refuse less than 9 (4.4).
    real.version(new MongoVersion() {
      public List<Integer> getVersionArray() { return List.of(5, 0, 0); }
      public int getWireVersion() { return 13; }
    });
    Set<Ttl> ttls = ConcurrentHashMap.newKeySet();
    Channel[] last = new Channel[1];
    MongoBackend b = (MongoBackend) Proxy.newProxyInstance(MongoStandIn.class.getClassLoader(), new Class<?>[] {MongoBackend.class}, (p, m, args) -> {
      if (m.getName().equals("handleMessage")) {
        MongoMessage msg = (MongoMessage) args[0];
        Document d = msg.getDocument();
        last[0] = msg.getChannel();
        String c = d.keySet().iterator().next();
        if (c.equals("getParameter"))
          return new Document("featureCompatibilityVersion", new Document("version", "5.0")).append("ok", 1.0);
        if (c.equals("hello")) {
          Document r = new Document("isMaster", 1);
          d.forEach((k, v) -> { if (!k.equals("hello")) r.append(k, v); });
          args[0] = new MongoMessage(msg.getChannel(), msg.getHeader(), r);
        }
        if (c.equals("createIndexes") && d.get("indexes") instanceof Collection<?> l)
          for (Object o : l)
            if (o instanceof Document i && i.get("expireAfterSeconds") instanceof Number n)
              ttls.add(new Ttl(msg.getDatabaseName(), (String) d.get(c), ((Document) i.get("key")).keySet().iterator().next(), n.longValue()));
      }
      try { return m.invoke(real, args); } catch (InvocationTargetException e) { throw e.getCause(); }
    });
    MongoServer s = new MongoServer(b);
    s.bind("127.0.0.1", Integer.parseInt(a[0]));
    System.out.println(s.getLocalAddress().getPort());
    long every = Long.getLong("ttlSeconds", 60);
    ScheduledExecutorService sweep = Executors.newSingleThreadScheduledExecutor(r -> { Thread t = new Thread(r); t.setDaemon(true); return t; });
    sweep.scheduleWithFixedDelay(() -> ttls.forEach(t -> {
      try {
        real.handleCommand(last[0], t.db, "delete", new Document("delete", t.coll).append("deletes", List.of(
          new Document("q", new Document(t.field, new Document("$lt", Instant.now().minusSeconds(t.secs)))).append("limit", 0))));
      } catch (Throwable e) { System.err.println("ttl sweep " + t + " " + e); }
    }), every, every, TimeUnit.SECONDS);
    while (System.in.read() >= 0) { }
    s.shutdownNow();
    System.exit(0);
  }
}
