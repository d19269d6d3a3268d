// Sarama under the contract of tests/compat/src/contract.rs: `sarama ADDRESS CASE [ARGUMENT...]`.
package main

import (
	"context"
	"fmt"
	"os"
	"sort"
	"time"

	"github.com/IBM/sarama"

	"clients/lines"
)

const limit = 100 * time.Second

var address = []string{os.Args[1]}

func main() {
	time.AfterFunc(limit, func() { lines.Check(fmt.Errorf("not done within %v", limit)) })
	lines.Run(map[string]func([]string){
		"produce": produce, "read": read, "offsets": offsets, "member": member, "committed": committed, "create": create,
		"topics": topics, "partitions": partitions, "configs": configs, "alter": alter, "delete-records": deleteRecords,
		"groups": groups, "delete-group": deleteGroup, "delete": deleteTopic,
	})
}

func newConfig() *sarama.Config {
	config := sarama.NewConfig()
	config.Version = sarama.MaxVersion
	config.Metadata.Retry.Max = 100
	config.Metadata.Retry.Backoff = 50 * time.Millisecond
	config.Producer.Retry.Max = 200
	config.Producer.Retry.Backoff = 50 * time.Millisecond
	config.Consumer.Retry.Backoff = 50 * time.Millisecond
	config.Consumer.MaxWaitTime = 200 * time.Millisecond
	return config
}

var codecs = map[string]sarama.CompressionCodec{
	"none": sarama.CompressionNone, "gzip": sarama.CompressionGZIP, "snappy": sarama.CompressionSnappy,
	"lz4": sarama.CompressionLZ4, "zstd": sarama.CompressionZSTD,
}

func produce(arguments []string) {
	config := newConfig()
	config.Producer.RequiredAcks = sarama.WaitForAll
	config.Producer.Return.Successes = true
	config.Producer.Partitioner = sarama.NewManualPartitioner
	config.Producer.Compression = codecs[arguments[1]]
	if len(arguments) > 2 {
		config.Producer.Idempotent = true
		config.Net.MaxOpenRequests = 1
	}
	producer, err := sarama.NewSyncProducer(address, config)
	lines.Check(err)
	lines.Chunks(func(chunk []lines.Record) {
		var messages []*sarama.ProducerMessage
		for _, record := range chunk {
			message := &sarama.ProducerMessage{
				Topic: arguments[0], Partition: int32(record.Partition), Timestamp: time.UnixMilli(record.Time),
			}
			if record.Key != nil {
				message.Key = sarama.ByteEncoder(record.Key)
			}
			if record.Value != nil {
				message.Value = sarama.ByteEncoder(record.Value)
			}
			for _, header := range record.Headers {
				message.Headers = append(message.Headers, sarama.RecordHeader{Key: []byte(header.Name), Value: []byte(header.Text)})
			}
			messages = append(messages, message)
		}
		lines.Check(producer.SendMessages(messages))
		for _, message := range messages {
			lines.Say(message.Partition, message.Offset)
		}
	})
	lines.Check(producer.Close())
}

func sayMessage(message *sarama.ConsumerMessage) {
	record := lines.Record{
		Partition: int(message.Partition), Offset: message.Offset, Time: message.Timestamp.UnixMilli(),
		Key: message.Key, Value: message.Value,
	}
	for _, header := range message.Headers {
		record.Headers = append(record.Headers, lines.Header{Name: string(header.Key), Text: string(header.Value)})
	}
	lines.SayRecord(record)
}

func read(arguments []string) {
	start := map[string]int64{"beginning": sarama.OffsetOldest, "end": sarama.OffsetNewest}
	offset, named := start[arguments[2]]
	if !named {
		offset = lines.Number(arguments[2])
	}
	consumer, err := sarama.NewConsumer(address, newConfig())
	lines.Check(err)
	partition, err := consumer.ConsumePartition(arguments[0], int32(lines.Number(arguments[1])), offset)
	lines.Check(err)
	if offset == sarama.OffsetNewest {
		lines.Say("ready")
	}
	for count := lines.Number(arguments[3]); count > 0; count-- {
		sayMessage(<-partition.Messages())
	}
	lines.Check(partition.Close())
	lines.Check(consumer.Close())
}

func offsets(arguments []string) {
	client, err := sarama.NewClient(address, newConfig())
	lines.Check(err)
	say := func(name string, time int64) {
		offset, err := client.GetOffset(arguments[0], int32(lines.Number(arguments[1])), time)
		lines.Check(err)
		lines.Say(name, offset)
	}
	say("beginning", sarama.OffsetOldest)
	say("end", sarama.OffsetNewest)
	for _, time := range arguments[2:] {
		say(time, lines.Number(time))
	}
	lines.Check(client.Close())
}

type memberHandler struct{ topic string }

func (handler memberHandler) Setup(session sarama.ConsumerGroupSession) error {
	claims := session.Claims()[handler.topic]
	sort.Slice(claims, func(left, right int) bool { return claims[left] < claims[right] })
	words := []any{"assigned"}
	for _, partition := range claims {
		words = append(words, partition)
	}
	lines.Say(words...)
	return nil
}

func (memberHandler) Cleanup(sarama.ConsumerGroupSession) error { return nil }

func (memberHandler) ConsumeClaim(session sarama.ConsumerGroupSession, claim sarama.ConsumerGroupClaim) error {
	for {
		select {
		case <-session.Context().Done():
			return nil
		case message, open := <-claim.Messages():
			if !open {
				return nil
			}
			session.MarkMessage(message, "")
			session.Commit()
			sayMessage(message)
		}
	}
}

func member(arguments []string) {
	config := newConfig()
	config.Consumer.Offsets.Initial = sarama.OffsetOldest
	config.Consumer.Offsets.AutoCommit.Enable = false
	config.Consumer.Group.Session.Timeout = 10 * time.Second
	config.Consumer.Group.Heartbeat.Interval = 200 * time.Millisecond
	config.Consumer.Group.Rebalance.Retry.Backoff = 100 * time.Millisecond
	group, err := sarama.NewConsumerGroup(address, arguments[1], config)
	lines.Check(err)
	running, stop := context.WithCancel(context.Background())
	ended := lines.StdinEnd()
	go func() {
		<-ended
		stop()
	}()
	for running.Err() == nil {
		lines.Check(group.Consume(running, arguments[:1], memberHandler{arguments[0]}))
	}
	lines.Check(group.Close())
}

func committed(arguments []string) {
	withAdmin(func(admin sarama.ClusterAdmin) {
		described, err := admin.DescribeTopics(arguments[:1])
		lines.Check(err)
		var partitions []int32
		for _, partition := range described[0].Partitions {
			partitions = append(partitions, partition.ID)
		}
		sort.Slice(partitions, func(left, right int) bool { return partitions[left] < partitions[right] })
		answer, err := admin.ListConsumerGroupOffsets(arguments[1], map[string][]int32{arguments[0]: partitions})
		lines.Check(err)
		for _, partition := range partitions {
			block := answer.GetBlock(arguments[0], partition)
			if block.Err != sarama.ErrNoError {
				lines.Check(block.Err)
			}
			if block.Offset >= 0 {
				lines.Say(partition, block.Offset)
			}
		}
	})
}

func withAdmin(work func(sarama.ClusterAdmin)) {
	admin, err := sarama.NewClusterAdmin(address, newConfig())
	lines.Check(err)
	work(admin)
	lines.Check(admin.Close())
}

func create(arguments []string) {
	detail := &sarama.TopicDetail{
		NumPartitions: int32(lines.Number(arguments[1])), ReplicationFactor: 1, ConfigEntries: map[string]*string{},
	}
	for key, value := range lines.Configs(arguments[2:]) {
		value := value
		detail.ConfigEntries[key] = &value
	}
	withAdmin(func(admin sarama.ClusterAdmin) { lines.Check(admin.CreateTopic(arguments[0], detail, false)) })
}

func topics([]string) {
	withAdmin(func(admin sarama.ClusterAdmin) {
		listed, err := admin.ListTopics()
		lines.Check(err)
		var names []string
		for name := range listed {
			names = append(names, name)
		}
		sort.Strings(names)
		described, err := admin.DescribeTopics(names)
		lines.Check(err)
		for _, topic := range described {
			if !topic.IsInternal {
				lines.Say(topic.Name, len(topic.Partitions))
			}
		}
	})
}

func partitions(arguments []string) {
	count := int32(lines.Number(arguments[1]))
	withAdmin(func(admin sarama.ClusterAdmin) { lines.Check(admin.CreatePartitions(arguments[0], count, nil, false)) })
}

func configs(arguments []string) {
	resource := sarama.ConfigResource{Type: sarama.TopicResource, Name: arguments[0], ConfigNames: arguments[1:]}
	withAdmin(func(admin sarama.ClusterAdmin) {
		entries, err := admin.DescribeConfig(resource)
		lines.Check(err)
		values := map[string]string{}
		for _, entry := range entries {
			values[entry.Name] = entry.Value
		}
		for _, key := range arguments[1:] {
			lines.Say(key + "=" + values[key])
		}
	})
}

func alter(arguments []string) {
	entries := map[string]sarama.IncrementalAlterConfigsEntry{}
	for key, value := range lines.Configs(arguments[1:]) {
		value := value
		entries[key] = sarama.IncrementalAlterConfigsEntry{Operation: sarama.IncrementalAlterConfigsOperationSet, Value: &value}
	}
	withAdmin(func(admin sarama.ClusterAdmin) {
		lines.Check(admin.IncrementalAlterConfig(sarama.TopicResource, arguments[0], entries, false))
	})
}

func deleteRecords(arguments []string) {
	offsets := map[int32]int64{int32(lines.Number(arguments[1])): lines.Number(arguments[2])}
	withAdmin(func(admin sarama.ClusterAdmin) { lines.Check(admin.DeleteRecords(arguments[0], offsets)) })
}

func groups([]string) {
	withAdmin(func(admin sarama.ClusterAdmin) {
		listed, err := admin.ListConsumerGroups()
		lines.Check(err)
		var names []string
		for name := range listed {
			names = append(names, name)
		}
		sort.Strings(names)
		for _, name := range names {
			lines.Say(name)
		}
	})
}

func deleteGroup(arguments []string) {
	withAdmin(func(admin sarama.ClusterAdmin) { lines.Check(admin.DeleteConsumerGroup(arguments[0])) })
}

func deleteTopic(arguments []string) {
	withAdmin(func(admin sarama.ClusterAdmin) { lines.Check(admin.DeleteTopic(arguments[0])) })
}
